"""The mark of a session in Redis: how far its worker has come, for the worker that finds the session after a crash.

A mark is one line, `stage starts token receipt`. Decision: docs/decisions/0016-marks.md.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

#: A session that ended the workers of so many starts is not started again.
MAX_STARTS = 3


class Stage(StrEnum):
    """Progress towards the picture."""

    #: Nothing has been paid: the session may start again.
    STARTED = "started"
    #: A call to OpenAI may be in flight: the session never starts again.
    CALLING = "calling"
    #: OpenAI has answered with a picture, which is in the storage or on its way there.
    PAID = "paid"


class Receipt(BaseModel):
    """The facts of a paid call that the settled session shows."""

    model_config = ConfigDict(frozen=True)

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    model: str | None = None
    prompt_version: str | None = None
    #: From the lease to the answer; None: not known.
    processing_time_ms: int | None = None


@dataclass(frozen=True)
class Mark:
    """`starts` counts the workers that started the session, the marked one included."""

    stage: Stage
    starts: int = 1
    token: str = ""
    receipt: Receipt = field(default_factory=Receipt)

    @classmethod
    def read(cls, kept: bytes) -> Self:
        """Read the mark. A mark of another version counts as a call in flight, because money may have been paid."""
        match = re.fullmatch(r"(\w+) (\d{1,9}) (\S+) ?(.*)", kept.decode(errors="replace"), re.DOTALL)
        if not match or match[1] not in set(Stage):
            return cls(Stage.CALLING)
        try:
            receipt = Receipt.model_validate_json(match[4] or "{}")
        except ValidationError:
            receipt = Receipt()
        return cls(Stage(match[1]), int(match[2]), match[3], receipt)

    def __str__(self) -> str:
        receipt = self.receipt.model_dump_json(exclude_none=True)
        return f"{self.stage} {self.starts} {self.token} {receipt}"
