"""The database's side of the data life: its functions in sql/functions.sql."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from postgrest import AsyncPostgrestClient

from worker.generation.channel import Channel
from worker.generation.retrying import retry_for
from worker.generation.supabase import database

#: Longest outage of the database that is waited out.
_PATIENCE_SECONDS = 60.0
#: Rows of one statement.
_BATCH = 500
#: After each statement: realtime passes every changed row on to browsers.
_PAUSE_SECONDS = 0.25


@dataclass
class Expired:
    """Rows that lost their pictures' addresses, and rows that keep them."""

    rows: int = 0
    #: Open sessions, and stores' sessions whose picture is young.
    open: int = 0


class Rows:
    """Every method raises ServiceUnavailable after some patience."""

    def __init__(self, client: AsyncPostgrestClient) -> None:
        self._database = client

    async def now(self) -> datetime:
        """The clock by which objects are dated, which may differ from this machine's."""
        return (await self._in_use("", []))[0]

    async def in_use(self, bucket: str, names: list[str]) -> set[str]:
        """Return the objects that open sessions need."""
        return (await self._in_use(bucket, names))[1]

    async def expire(
        self,
        channel: Channel,
        before: datetime,
        owner_id: UUID | None = None,
        *,
        full: bool = False,
        on_progress: Callable[[], None] = lambda: None,
    ) -> Expired:
        """Expire the addresses in rows that were made before a moment, of one owner or of all.

        A walk over all owners begins where the last one ended; once a day, and with `full`, it begins at the first row.
        """
        done, after = Expired(), {"p_after": None, "p_after_id": None}
        owner = {"p_owner_id": str(owner_id)} if owner_id else {}
        while True:
            answer = await self._call(
                "wearon_data_life_expire",
                {
                    "p_channel": channel,
                    "p_before": before.isoformat(),
                    "p_limit": _BATCH,
                    "p_full": full,
                    **owner,
                    **after,
                },
            )
            done.rows += answer["expired"]
            done.open += answer["open"]
            on_progress()
            if answer["walked"] < _BATCH:
                return done
            if answer["expired"]:
                await asyncio.sleep(_PAUSE_SECONDS)
            after = {"p_after": answer["after"], "p_after_id": answer["after_id"]}

    async def owned(self, channel: Channel, owner_id: UUID, session_ids: list[str]) -> set[str]:
        """Return the sessions that belong to the owner."""
        found: set[str] = set()
        for start in range(0, len(session_ids), _BATCH // 5):  # they are part of an address
            some = session_ids[start : start + _BATCH // 5]
            query = self._database.table(channel.table).select("id").in_("id", some)
            query = query.eq(channel.owner_column, str(owner_id))
            found |= {row["id"] for row in database.rows(await database.run(query), "id")}
        return found

    async def _in_use(self, bucket: str, names: list[str]) -> tuple[datetime, set[str]]:
        answer = await self._call("wearon_data_life_in_use", {"p_bucket": bucket, "p_names": names})
        return datetime.fromisoformat(answer["now"]), set(answer["in_use"])

    async def _call(self, function: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return await retry_for(_PATIENCE_SECONDS)(database.call, self._database, function, parameters)
