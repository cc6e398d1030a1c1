"""The answer of the database to a change of a session's state."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.generation.supabase.database import AnswerLost

#: The status after each call that changed something.
_AFTER = {
    "start_generation": "processing",
    "wearon_region_start": "processing",
    "requeue_generation": "queued",
    "complete_generation": "completed",
    "fail_generation": "failed",
}


class Change(BaseModel):
    """Effect of a call: `changed` is false when the session was not in the state that the call starts from.

    Newer functions may answer more fields, which are ignored, and older ones fewer.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    changed: bool
    #: The session's status now; None: there is no such session.
    status: str | None
    #: False: the session belongs to another owner (start only).
    owner_matches: bool | None = None
    #: The stored picture's address (complete only).
    image_url: str | None = None
    #: Where the credit went (fail only): user, store, shopper, overage, unmatched, already_refunded, none.
    refund: str | None = None
    #: False: the ledger shows that the session's credit was never taken, went back or is used (start only).
    paid: bool = True
    #: The table that did not take the session's event, with the SQLSTATE (complete and fail only).
    events_error: str = ""
    #: A callback of the store waits for its deliverer (complete and fail only).
    callbacks: bool = False

    @classmethod
    def read(cls, function: str, result: dict[str, Any]) -> Self:
        """The effect that a function's answer tells; raises AnswerLost for an answer that tells none."""
        if result.get("changed") is True:
            result = {"status": _AFTER[function], **result}
        elif "status" not in result:
            raise AnswerLost(f"database answered {function} without the session's status")
        try:
            return cls.model_validate({k: v for k, v in result.items() if v is not None or k == "status"})
        except ValidationError as error:
            fields = ", ".join(str(item["loc"][0]) for item in error.errors())
            raise AnswerLost(f"database answered {function} with unusable values of: {fields}") from None
