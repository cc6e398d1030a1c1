"""The database's side of a manifest: sessions and credits of its rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from postgrest import AsyncPostgrestClient

from worker.errors import ServiceUnavailable, WorkerError
from worker.generation.channel import Channel
from worker.generation.message import GenerationMessage
from worker.generation.queue.order import session_row
from worker.generation.retrying import retry_for
from worker.generation.supabase.database import FunctionMissing, call, rows, run

_CHANNEL = Channel.B2B
#: Ids in one address.
PAGE = 100
#: Longest outage of the database that is waited out.
_PATIENCE_SECONDS = 30.0
#: Status of a row without a session.
NOT_QUEUED = "not_queued"
_BEGIN = "wearon_bulk_begin"
_SESSION = "id,status,error_message,generated_image_url"


@dataclass(frozen=True)
class Begun:
    """Rows of a page whose credit is taken and whose session is there, by an earlier call or by this one."""

    #: Status of each session.
    statuses: dict[UUID, str]
    #: Rows whose request id has lines in the store's ledger, of another try-on.
    used: int
    #: The store had no credit left for the other rows.
    out_of_credit: bool


class Books:
    """Sessions and credits of one store. Each method may be repeated; all raise ServiceUnavailable or CallRejected."""

    def __init__(self, database: AsyncPostgrestClient, store_id: UUID) -> None:
        self._database = database
        self._store_id = str(store_id)

    async def check_store(self) -> None:
        """Raise WorkerError unless the store is there and active."""
        query = self._database.table("stores").select("status").eq("id", self._store_id).limit(1)
        found = rows(await self._patiently(query), "status")
        if not found:
            raise WorkerError(f"there is no store {self._store_id}")
        if found[0]["status"] != "active":
            raise WorkerError(f"store {self._store_id} is {found[0]['status']}, not active; nothing was queued")

    async def balance(self) -> int:
        """Credits of the store."""
        query = self._database.table(_CHANNEL.balances).select("balance").eq("store_id", self._store_id).limit(1)
        found = rows(await self._patiently(query), "balance")
        return int(found[0]["balance"]) if found else 0

    async def sessions(self, session_ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
        """Rows of these sessions, as far as they are there."""
        found: dict[UUID, dict[str, Any]] = {}
        for start in range(0, len(session_ids), PAGE):
            some = [str(session_id) for session_id in session_ids[start : start + PAGE]]
            query = self._database.table(_CHANNEL.table).select(_SESSION).in_("id", some)
            query = query.eq("store_id", self._store_id)
            found |= {UUID(row["id"]): row for row in rows(await self._patiently(query), *_SESSION.split(","))}
        return found

    async def begin(self, messages: Iterable[GenerationMessage]) -> Begun:
        """Take a credit for each row of a page and make its session, both or neither, as far as that is not done."""
        sent = [session_row(message) for message in messages]
        answer = await retry_for(_PATIENCE_SECONDS)(self._begin, sent)
        try:
            statuses = {UUID(session_id): str(status) for session_id, status in answer["sessions"].items()}
            return Begun(statuses, int(answer["used"]), bool(answer["out_of_credit"]))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ServiceUnavailable(f"database answered {_BEGIN} with an unusable object: {error!r}") from error

    async def usual(self) -> tuple[float, float]:
        """Seconds and USD of the latest try-ons of all stores, on average; 0 when nothing is known."""
        time, cost = "processing_time_ms", "estimated_cost_usd"
        query = self._database.table(_CHANNEL.table).select(f"{time},{cost}").eq("status", "completed")
        found = rows(await self._patiently(query.order("created_at", desc=True).limit(PAGE)), time, cost)
        return _average(row[time] for row in found) / 1000, _average(row[cost] for row in found)

    async def _begin(self, sent: list[dict[str, Any]]) -> dict[str, Any]:
        try:
            return await call(self._database, _BEGIN, {"p_store_id": self._store_id, "p_sessions": sent})
        except FunctionMissing as error:
            raise WorkerError(str(error)) from None  # waiting does not install it

    async def _patiently(self, query: Any) -> Any:
        return await retry_for(_PATIENCE_SECONDS)(run, query)


def _average(values: Iterable[Any]) -> float:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
