"""Session rows in Supabase: every change of state goes through the SQL functions in sql/."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from postgrest import AsyncPostgrestClient
from pydantic import BaseModel, ConfigDict, ValidationError

from worker.errors import ServiceUnavailable
from worker.generation.database import FunctionMissing, rows, run
from worker.generation.installed import Installed
from worker.generation.message import Channel
from worker.generation.retrying import until_available

TABLES: dict[Channel, str] = {"b2c": "generation_sessions", "b2b": "store_generation_sessions"}
OWNER: dict[Channel, str] = {"b2c": "user_id", "b2b": "store_id"}
MIGRATION = Path(__file__).parent / "sql" / "functions.sql"
#: What the migration must be at least; raised with every change of a function's behaviour.
MIGRATION_VERSION = 3
SIGNATURES = {
    "start_generation": "p_channel text, p_session_id uuid, p_owner_id uuid",
    "requeue_generation": "p_channel text, p_session_id uuid",
    "complete_generation": (
        "p_channel text, p_session_id uuid, p_image_url text, p_input_tokens integer, p_output_tokens integer, "
        "p_cost_usd numeric, p_processing_time_ms integer"
    ),
    "fail_generation": "p_channel text, p_session_id uuid, p_message text, p_processing_time_ms integer",
}
_PAGE = 1000
#: The status after each call that changed something.
_AFTER = {
    "start_generation": "processing",
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
    #: False: the session belongs to somebody else (start only).
    owner_matches: bool | None = None
    #: The stored picture's address (complete only).
    image_url: str | None = None
    #: Where the credit went (fail only): user, store, shopper, overage, unmatched, already_refunded, none.
    refund: str | None = None
    #: False: the ledger shows that the session's credit was never taken, went back or is used (start only).
    paid: bool = True


@dataclass(frozen=True)
class OpenSession:
    """A session that is neither completed nor failed."""

    channel: Channel
    session_id: UUID
    status: str


class Sessions:
    """All methods raise ServiceUnavailable when the database did not do it; each may then be repeated."""

    def __init__(self, database: AsyncPostgrestClient) -> None:
        self._database = database

    async def start(self, channel: Channel, session_id: UUID, owner_id: UUID) -> Change:
        """queued|pending -> processing."""
        return await self._change("start_generation", channel, session_id, p_owner_id=str(owner_id))

    async def requeue(self, channel: Channel, session_id: UUID) -> Change:
        """processing -> queued."""
        return await self._change("requeue_generation", channel, session_id)

    async def complete(
        self,
        channel: Channel,
        session_id: UUID,
        *,
        image_url: str,
        input_tokens: int | None,
        output_tokens: int | None,
        cost_usd: Decimal | None,
        processing_time_ms: int,
    ) -> Change:
        """processing -> completed."""
        return await self._change(
            "complete_generation",
            channel,
            session_id,
            p_image_url=image_url,
            p_input_tokens=input_tokens,
            p_output_tokens=output_tokens,
            p_cost_usd=None if cost_usd is None else float(cost_usd),
            p_processing_time_ms=processing_time_ms,
        )

    async def fail(self, channel: Channel, session_id: UUID, message: str, processing_time_ms: int | None) -> Change:
        """queued|pending|processing -> failed, with the refund to whoever paid."""
        return await self._change(
            "fail_generation", channel, session_id, p_message=message, p_processing_time_ms=processing_time_ms
        )

    async def installed(self, patience_seconds: float = 0) -> Installed:
        """The SQL functions that the database has; PostgREST gets that long to notice a fresh migration."""
        try:
            answer = await until_available(lambda: self._call("wearon_worker_functions", {}), patience_seconds)
        except FunctionMissing:
            answer = {}
        return Installed.read(answer, MIGRATION_VERSION, SIGNATURES)

    async def channels_of(self, session_id: UUID, owner_ids: set[str]) -> list[Channel]:
        """Channels in which there is such a session; those of these owners alone when both have one."""
        found: dict[Channel, str] = {}
        for channel, table in TABLES.items():
            query = self._database.table(table).select(OWNER[channel]).eq("id", str(session_id)).limit(1)
            for row in rows(await run(query), OWNER[channel]):
                found[channel] = str(row[OWNER[channel]])
        if len(found) < len(TABLES):
            return list(found)
        return [channel for channel, owner_id in found.items() if owner_id in owner_ids]

    async def open(
        self, statuses: list[str], on_progress: Callable[[], None], created_before: datetime | None = None
    ) -> list[OpenSession]:
        """All sessions of both channels in these statuses; calls `on_progress` after each answer of the database."""
        found: list[OpenSession] = []
        for channel, table in TABLES.items():
            offset = 0
            # Until an empty page: the server may give less than was asked for (PostgREST's max-rows).
            while True:
                query = self._database.table(table).select("id,status").in_("status", _known(channel, statuses))
                if created_before:
                    query = query.lt("created_at", created_before.isoformat())
                page = rows(await run(query.order("id").range(offset, offset + _PAGE - 1)), "id", "status")
                on_progress()
                found += [OpenSession(channel, UUID(row["id"]), row["status"]) for row in page]
                if not page:
                    break
                offset += len(page)
        return found

    async def _change(self, function: str, channel: Channel, session_id: UUID, **parameters: Any) -> Change:
        result = await self._call(function, {"p_channel": channel, "p_session_id": str(session_id), **parameters})
        if result.get("changed") is True:
            result = {"status": _AFTER[function], **result}
        elif "status" not in result:
            raise ServiceUnavailable(f"database answered {function} without the session's status")
        try:
            return Change.model_validate({k: v for k, v in result.items() if v is not None or k == "status"})
        except ValidationError as error:
            fields = ", ".join(str(item["loc"][0]) for item in error.errors())
            raise ServiceUnavailable(f"database answered {function} with unusable values of: {fields}") from None

    async def _call(self, function: str, parameters: dict[str, Any]) -> dict[str, Any]:
        result = await run(self._database.rpc(function, parameters))
        if not isinstance(result, dict):
            raise ServiceUnavailable(f"database answered {function} with {type(result).__name__} instead of an object")
        return result


def _known(channel: Channel, statuses: list[str]) -> list[str]:
    """Only statuses of the channel: the index on open b2b sessions serves no query that asks for "pending"."""
    return [status for status in statuses if channel == "b2c" or status != "pending"]
