"""The database's side of a manifest: sessions and credits of its rows, by the functions that the app uses, too."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

from worker.errors import CallRejected, WorkerError
from worker.generation.channel import Channel
from worker.generation.message import GenerationMessage
from worker.generation.retrying import retry_for
from worker.generation.supabase.database import rows, run

_CHANNEL = Channel.B2B
#: Ids in one address.
PAGE = 100
#: A database that is away is waited for this long, also between two rows.
_PATIENCE_SECONDS = 30.0
_DESCRIPTION = "wearon-worker bulk"
_UNIQUE_VIOLATION = "23505"
_BEFORE = object()
_SESSION = "id,status,error_message,generated_image_url"


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

    async def credits(self, request_ids: Iterable[str]) -> dict[str, set[str]]:
        """Types of the ledger's lines of each request, of those that have any; at most a page of requests."""
        query = self._database.table(_CHANNEL.ledger).select("request_id,type").eq("store_id", self._store_id)
        found: dict[str, set[str]] = {}
        for row in rows(await self._patiently(query.in_("request_id", [*request_ids])), "request_id", "type"):
            found.setdefault(row["request_id"], set()).add(row["type"])
        return found

    async def deduct(self, request_id: str) -> bool:
        """Take one credit once; false when there is none left."""
        if await self._credit("deduct", request_id):
            return True
        # Without a credit left the function does not look whether this request has taken one before.
        return "deduction" in (await self.credits([request_id])).get(request_id, set())

    async def refund(self, request_id: str) -> bool:
        """Give the credit of a request back once; false when that was done before."""
        return await self._credit("refund", request_id)

    async def insert(self, message: GenerationMessage) -> None:
        """The session's row, if it is not there yet."""
        row: dict[str, Any] = {
            "id": str(message.session_id),
            "store_id": self._store_id,
            "request_id": message.request_id,
            "shopper_email": None,
            "status": "queued",
            "model_image_url": message.image_urls[0],
            "outfit_image_url": message.image_urls[1],
            "prompt_system": "",
            "prompt_user": message.prompt,
            "credits_used": 1,
        }
        await self._once(self._database.table(_CHANNEL.table).insert(row))

    async def usual(self) -> tuple[float, float]:
        """Seconds and USD that a try-on has lately cost; 0 when nothing is known."""
        columns = "processing_time_ms,estimated_cost_usd"
        query = self._database.table(_CHANNEL.table).select(columns).eq("status", "completed")
        query = query.order("created_at", desc=True).limit(PAGE)
        found = rows(await self._patiently(query), *columns.split(","))
        return tuple(_average(row[name] for row in found) for name in columns.split(","))  # type: ignore[return-value]

    async def _credit(self, verb: str, request_id: str) -> bool:
        parameters: dict[str, Any] = {"p_store_id": self._store_id, "p_amount": 1, "p_request_id": request_id}
        call = self._database.rpc(f"{verb}_store_credits", {**parameters, "p_description": _DESCRIPTION})
        taken = await self._once(call)
        return taken is not _BEFORE if verb == "refund" else taken in (True, _BEFORE)

    async def _once(self, query: Any) -> Any:
        """The answer's data; `_BEFORE` when an earlier call has done it, whose answer was perhaps lost."""
        try:
            return await self._patiently(query)
        except CallRejected as error:
            if isinstance(error.__cause__, APIError) and error.__cause__.code == _UNIQUE_VIOLATION:
                return _BEFORE
            raise

    async def _patiently(self, query: Any) -> Any:
        return await retry_for(_PATIENCE_SECONDS)(run, query)


def _average(values: Iterable[Any]) -> float:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
