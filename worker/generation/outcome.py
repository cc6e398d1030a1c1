"""The end of one generation, as it is kept in Redis until the database has it."""

import time
from datetime import datetime
from decimal import Decimal
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from worker.errors import GenerationError
from worker.generation.channel import Channel, SessionRef
from worker.logs import bound

#: What an event says of its generation; neither a prompt nor an address.
Facts = dict[str, bool | int | float | str]
#: Address of a picture that was kept for too long to be shown (see `data_life.remains`).
EXPIRED = "expired"


class Outcome(BaseModel):
    """Completed with a picture, or failed with the sentence that the user reads."""

    model_config = ConfigDict(frozen=True)

    channel: Channel
    session_id: UUID
    kind: Literal["completed", "failed"]
    processing_time_ms: int
    #: completed
    image_url: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    #: failed: the sentence for the user, and the closed word for it
    user_message: str = ""
    reason: str = ""
    #: Of the ended generation, for the log of the process that writes the outcome.
    request_id: str = Field(default_factory=lambda: str(bound().get("request_id", "")))
    #: For the session's event, beside what stands here.
    facts: Facts = {}
    #: When the message was made and when the end was known, in seconds since 1970; None: the message did not say.
    created_at: float | None = None
    known_at: float = Field(default_factory=time.time)

    @classmethod
    def failed(
        cls,
        session: SessionRef,
        error: GenerationError,
        processing_time_ms: int = 0,
        created_at: datetime | None = None,
        facts: Facts | None = None,
    ) -> Self:
        """The outcome of a generation that ended with `error`."""
        return cls(
            channel=session.channel,
            session_id=session.id,
            kind="failed",
            processing_time_ms=processing_time_ms,
            user_message=error.user_message,
            reason=error.reason,
            created_at=created_at.timestamp() if created_at else None,
            facts=facts or {},
        )

    @property
    def session(self) -> SessionRef:
        """The session that has ended."""
        return SessionRef(self.channel, self.session_id)

    @property
    def is_bulk(self) -> bool:
        """Return True for bulk. An outcome of the sweep does not tell."""
        return self.facts.get("priority") == "bulk"

    @property
    def event(self) -> Facts:
        """Facts for the session's event."""
        named = {"request_id": self.request_id, "reason": self.reason}
        facts = {**{name: value for name, value in named.items() if value}, **self.facts}
        # A message may carry NUL, and the database would refuse the whole outcome.
        return {name: value.replace("\0", "") if isinstance(value, str) else value for name, value in facts.items()}
