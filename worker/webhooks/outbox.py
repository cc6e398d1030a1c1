"""The outbox of callbacks in the database, through the SQL functions in generation/sql."""

from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from postgrest import AsyncPostgrestClient
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from worker.errors import ServiceUnavailable
from worker.generation.supabase.database import run

T = TypeVar("T", bound=BaseModel)
#: Longer than an attempt with its report may take; a killed worker's attempts are made again after this.
LEASE_SECONDS = 60


class Delivery(BaseModel):
    """One event for one endpoint, claimed for one attempt."""

    model_config = ConfigDict(frozen=True)

    id: int
    event_id: str
    endpoint_id: str
    url: str
    type: str
    occurred_at: str
    #: 1 is the first.
    attempt: int
    data: dict[str, Any]
    secrets: list[SecretStr] | None = None


class Claim(BaseModel):
    """Deliveries to attempt now."""

    deliveries: list[Delivery]
    #: Enabled endpoints of all stores.
    endpoints: int
    #: Until a delivery is due; negative: one is due already; None: none waits.
    wait_seconds: float | None = None


class State(BaseModel):
    """Sums over all endpoints."""

    enabled: int = Field(ge=0)
    failing: int = Field(ge=0)
    disabled: int = Field(ge=0)
    oldest_seconds: float
    overdue_seconds: float


class Trimmed(BaseModel):
    """Numbers of deliveries that were given up, of deleted deliveries, and of forgotten events."""

    given_up: int = 0  # older functions do not return it
    deleted: int
    forgotten: int


@dataclass(frozen=True)
class Report:
    """The end of one attempt; `retry_seconds` None: a failed delivery is given up."""

    id: int
    ok: bool
    gone: bool = False
    status: int | None = None
    error: str | None = None
    retry_seconds: float | None = None


class Outbox:
    """All methods raise ServiceUnavailable, after which the call may be repeated, and CallRejected."""

    def __init__(self, database: AsyncPostgrestClient) -> None:
        self._database = database
        #: A failure is recorded only for the attempt that this process has claimed.
        self._lease = str(uuid4())

    async def claim(self, limit: int, per_endpoint: int) -> Claim:
        """Take at most `limit` deliveries that are due, of each endpoint at most `per_endpoint` under way."""
        answer = await self._call(
            "wearon_webhook_claim",
            p_lease=self._lease,
            p_limit=limit,
            p_per_endpoint=per_endpoint,
            p_lease_seconds=LEASE_SECONDS,
        )
        return _read(Claim, answer)

    async def report(self, report: Report) -> None:
        """Record the end of an attempt."""
        await self._call("wearon_webhook_report", p_lease=self._lease, p_results=[vars(report)])

    async def state(self) -> State:
        """Sums for the metrics."""
        return _read(State, await self._call("wearon_webhook_state"))

    async def trim(self) -> Trimmed:
        """Delete some of what is too old."""
        return _read(Trimmed, await self._call("wearon_webhook_trim"))

    async def _call(self, function: str, **parameters: Any) -> Any:
        return await run(self._database.rpc(function, parameters), f"{function} failed")


def _read(kind: type[T], answer: Any) -> T:
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        # Not pydantic's own text, which quotes the values.
        fields = ", ".join(".".join(map(str, item["loc"])) for item in error.errors()[:3])
        raise ServiceUnavailable(f"database answered with an unusable {kind.__name__.lower()}: {fields}") from None
