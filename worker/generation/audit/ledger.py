"""The database's side of the audit: its functions in sql/functions.sql, which move no ledger to the worker."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from postgrest import AsyncPostgrestClient

from worker.errors import ServiceUnavailable
from worker.generation.channel import Channel
from worker.generation.retrying import retry_for
from worker.generation.supabase import database

_PAGE = 1000
#: A hiccup in the middle of an audit is waited out this long.
_PATIENCE_SECONDS = 5.0
#: Examples of each kind in the report.
_EXAMPLES = 100
#: Between two looks at what seems wrong: another program may be between two of its steps.
PAUSE_SECONDS = 1.0
_BUSY_SECONDS = 1.0

Row = dict[str, Any]


class AuditUnderWay(ServiceUnavailable):
    """Another audit of the same database has not ended."""


class Ledger:
    """Every method raises ServiceUnavailable."""

    def __init__(self, database: AsyncPostgrestClient) -> None:
        self._database = database

    async def prove(self, *, everything: bool, patience_seconds: float) -> dict[str, Any]:
        """Run one audit to its end, and return its report; wait so long for another audit to end."""
        parameters = {"p_run": str(uuid4()), "p_full": everything}
        given_up_at = time.monotonic() + patience_seconds
        while True:
            match (await self._call("wearon_audit_step", parameters))["state"]:
                case "done":
                    return await self._call("wearon_audit_report", {"p_examples": _EXAMPLES})
                case "waiting":
                    await asyncio.sleep(PAUSE_SECONDS)
                case "busy":
                    if time.monotonic() > given_up_at:
                        raise AuditUnderWay("another audit is under way; try again when it has ended")
                    await asyncio.sleep(_BUSY_SECONDS)

    async def open_sessions(self, channel: Channel) -> AsyncIterator[list[Row]]:
        """Sessions that are neither completed nor failed, page by page."""
        columns = ["id", channel.owner_column, "status", "created_at"]
        columns += ["request_id"] if channel is Channel.B2B else []
        last = None
        while True:
            query = self._database.table(channel.table).select(",".join(columns))
            query = query.in_("status", sorted(channel.open_statuses)).order("id").limit(_PAGE)
            page = await self._rows(query.gt("id", last) if last else query, channel.table, columns)
            if not page:
                return
            yield page
            last = page[-1]["id"]

    async def _rows(self, query: Any, table: str, columns: list[str]) -> list[Row]:
        async def execute() -> list[Row]:
            return database.rows(await database.run(query, f"database does not show {table}"), *columns)

        return await retry_for(_PATIENCE_SECONDS)(execute)

    async def _call(self, function: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return await retry_for(_PATIENCE_SECONDS)(database.call, self._database, function, parameters)
