"""A manifest: try-ons of one store. Their ids follow from the manifest, so a second run has the same ids."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from worker.generation.message import GenerationMessage


@dataclass(frozen=True)
class Row:
    """One try-on; `number` counts from 1, `line` is where it stands in the file."""

    number: int
    line: int
    urls: tuple[str, ...]
    prompt: str
    #: The store's own name for it, for the results.
    reference: str
    #: Of the person in the photo, as in every message.
    consent_version: str | None = None
    age_verified: bool | None = None


@dataclass(frozen=True)
class Manifest:
    """All rows, and the ids that follow from them."""

    store_id: UUID
    id: str
    digest: str
    rows: list[Row]

    def message(self, row: Row) -> GenerationMessage:
        """The row's message. Raises ValidationError."""
        session_id = session_id_of(self.store_id, self.id, row.number)
        return GenerationMessage.model_validate(
            {
                "task_id": str(session_id),
                "channel": "b2b",
                "store_id": str(self.store_id),
                "session_id": str(session_id),
                "image_urls": list(row.urls),
                "prompt": row.prompt,
                "request_id": request_id_of(self.id, row.number),
                "version": 1,
                "created_at": datetime.now(UTC).isoformat(),
                "priority": "bulk",
                "consent_version": row.consent_version,
                "age_verified": row.age_verified,
            }
        )


def session_id_of(store_id: UUID, manifest_id: str, number: int) -> UUID:
    """Session of a row."""
    return uuid5(NAMESPACE_URL, f"wearon:bulk:{store_id}:{manifest_id}:{number}")


def request_id_of(manifest_id: str, number: int) -> str:
    """Request id of a row: the ledger takes one deduction and one refund for each."""
    return f"bulk_{manifest_id}_{number}"


def manifest_of(message: GenerationMessage) -> str:
    """Id of the manifest that the message is a row of, empty if there is none."""
    named = re.fullmatch(r"bulk_(.+)_([0-9]{1,9})", message.request_id)
    if not named or not message.store_id:
        return ""
    return named[1] if session_id_of(message.store_id, named[1], int(named[2])) == message.session_id else ""
