"""Session rows in Supabase: every change of state goes through the SQL functions in sql/."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

from worker.clients import refusal
from worker.errors import ServiceUnavailable
from worker.generation.message import Channel

MIGRATION = Path(__file__).parent / "sql" / "functions.sql"
#: What the migration must be at least; raised with every change of a function's behaviour.
MIGRATION_VERSION = 2
SIGNATURES = {
    "start_generation": "p_channel text, p_session_id uuid, p_owner_id uuid",
    "requeue_generation": "p_channel text, p_session_id uuid",
    "complete_generation": (
        "p_channel text, p_session_id uuid, p_image_url text, p_input_tokens integer, p_output_tokens integer, "
        "p_cost_usd numeric, p_processing_time_ms integer"
    ),
    "fail_generation": "p_channel text, p_session_id uuid, p_message text, p_processing_time_ms integer",
}
TABLES: dict[Channel, str] = {"b2c": "generation_sessions", "b2b": "store_generation_sessions"}
_PAGE = 1000
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Change:
    """What a call did: `changed` is false when the session was not in the state that the call starts from."""

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

    async def missing_functions(self) -> list[str]:
        """Names of the SQL functions that are not installed as this worker needs them; empty when all is well."""
        try:
            installed = await self._call("wearon_worker_functions", {})
        except FunctionMissing:
            return sorted(SIGNATURES)
        found = installed.get("functions", {})
        outdated = int(installed.get("version", 0)) < MIGRATION_VERSION
        return sorted(name for name, signature in SIGNATURES.items() if outdated or found.get(name) != signature)

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
                rows = await self._execute(query.order("id").range(offset, offset + _PAGE - 1))
                on_progress()
                found += [OpenSession(channel, UUID(row["id"]), row["status"]) for row in rows]
                if not rows:
                    break
                offset += len(rows)
        return found

    async def _change(self, function: str, channel: Channel, session_id: UUID, **parameters: Any) -> Change:
        result = await self._call(function, {"p_channel": channel, "p_session_id": str(session_id), **parameters})
        return Change(**result)

    async def _call(self, function: str, parameters: dict[str, Any]) -> dict[str, Any]:
        result = await self._execute(self._database.rpc(function, parameters))
        if not isinstance(result, dict):
            raise ServiceUnavailable(f"database answered {function} with {type(result).__name__} instead of an object")
        return result

    async def _execute(self, query: Any) -> Any:
        try:
            return (await query.execute()).data
        except APIError as error:
            if error.code == "PGRST202":
                raise FunctionMissing(f"database has no function for this call: {error.message}") from None
            raise ServiceUnavailable(f"database refused: {refusal(error)}") from error
        except _NOT_SENT as error:
            raise ServiceUnavailable(f"database did not answer: {type(error).__name__}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise AnswerLost(f"database did not answer: {type(error).__name__}") from error


def _known(channel: Channel, statuses: list[str]) -> list[str]:
    """Only statuses of the channel: the index on open b2b sessions serves no query that asks for "pending"."""
    return [status for status in statuses if channel == "b2c" or status != "pending"]


class AnswerLost(ServiceUnavailable):
    """The database may have done it."""


class FunctionMissing(ServiceUnavailable):
    """The worker's migration is not installed, or not as this worker needs it."""
