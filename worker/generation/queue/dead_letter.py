"""One message that could not be used, as an entry of the dead-letter list."""

import hashlib
import json
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self
from uuid import uuid4

from worker.errors import WorkerError

#: A payload up to this size is kept as it is, enough to replay every message that is not too large...
MAX_PAYLOAD_BYTES = 256 * 1024
#: ...of a larger one only the beginning, to see what it was.
_CUT_OFF_BYTES = 16 * 1024


class CannotReplay(WorkerError):
    """The dead letter is only the beginning of its message."""


@dataclass(frozen=True)
class DeadLetter:
    """One message that could not be used."""

    id: str
    reason: str
    detail: str
    #: ISO 8601, UTC.
    time: str
    #: What was on the queue, base64 because it need not be text; cut off when it was too large to keep.
    payload: str
    payload_bytes: int
    #: The entry of the list itself.
    item: bytes = field(default=b"", repr=False, compare=False)

    @classmethod
    def of(cls, payload: bytes, reason: str, detail: str) -> Self:
        """A new letter."""
        kept = payload if len(payload) <= MAX_PAYLOAD_BYTES else payload[:_CUT_OFF_BYTES]
        fields = {
            "id": uuid4().hex[:12],
            "reason": reason,
            "detail": detail[:1000],
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "payload": b64encode(kept).decode(),
            "payload_bytes": len(payload),
        }
        return cls.read(json.dumps(fields).encode())

    @classmethod
    def read(cls, item: bytes) -> Self:
        """Read an entry of the list; an entry that is no letter is shown as it is."""
        try:
            letter = cls(**json.loads(item), item=item)
            b64decode(letter.payload)
        except (ValueError, TypeError):
            name = hashlib.sha256(item).hexdigest()[:12]
            return cls(name, "unreadable", "the entry is no letter", "", b64encode(item).decode(), len(item), item)
        return letter

    @property
    def message(self) -> bytes:
        """The payload as it was on the queue (or its beginning)."""
        return b64decode(self.payload)

    @property
    def complete(self) -> bool:
        """Return True if the whole payload was kept."""
        return len(self.message) == self.payload_bytes

    def check_complete(self) -> None:
        """Raise CannotReplay for a letter whose payload was cut off."""
        if not self.complete:
            kept = len(self.message)
            raise CannotReplay(f"{self.id} cannot be replayed: {kept} of its {self.payload_bytes} bytes were kept")
