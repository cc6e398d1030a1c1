"""Open sessions that a sweep may end: those of the whole database, or those of one region."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from postgrest import AsyncPostgrestClient

from worker.generation import odd
from worker.generation.channel import Channel, SessionRef
from worker.generation.region import Region
from worker.generation.supabase.database import rows, run

_CHANNELS = {channel.value: channel for channel in Channel}
_PAGE = 1000


@dataclass(frozen=True)
class OpenSession(SessionRef):
    """A session that is neither completed nor failed."""

    status: str
    #: The column may be empty.
    created_at: datetime | None = None

    def is_older_than(self, moment: datetime) -> bool:
        """Return True if the session is known to be older than `moment`."""
        return self.created_at is not None and self.created_at < moment


class AllSessions:
    """The open sessions of the database; calls `on_progress` after each answer."""

    def __init__(self, database: AsyncPostgrestClient, on_progress: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._on_progress = on_progress

    async def open(
        self, statuses: list[str], created_before: datetime | None = None, limit: int | None = None
    ) -> list[OpenSession]:
        """Sessions of both channels in these statuses, all or up to a limit for each channel."""
        found: list[OpenSession] = []
        for channel in Channel:
            offset = 0
            # The index on open b2b sessions serves no query that asks for "pending".
            known = [status for status in statuses if status in channel.open_statuses]
            # Until an empty page: the server may give less than was asked for (PostgREST's max-rows).
            while True:
                query = self._database.table(channel.table).select("id,status,created_at").in_("status", known)
                if created_before:
                    query = query.lt("created_at", created_before.isoformat())
                # Sorted, the few of many would be looked for in the order of another index.
                query = query.limit(limit) if limit else query.order("id").range(offset, offset + _PAGE - 1)
                page = rows(await run(query), "id", "status", "created_at")
                self._on_progress()
                found += [_open_session(channel, row) for row in page]
                if not page or limit:
                    break
                offset += len(page)
        return found


class OwnSessions:
    """Answers as `AllSessions.open` does, with the sessions of this region and, in one region, those of none."""

    def __init__(self, region: Region, on_progress: Callable[[], None] = lambda: None) -> None:
        self._region = region
        self._on_progress = on_progress

    async def open(
        self, statuses: list[str], created_before: datetime | None = None, limit: int | None = None
    ) -> list[OpenSession]:
        """Open sessions of both channels in these statuses; raises ServiceUnavailable."""
        # An age, by the database's clock: this host's may differ.
        older = (datetime.now(UTC) - created_before).total_seconds() if created_before else None
        rows = await self._region.open(statuses, older, limit)
        self._on_progress()
        return [_open_session(_CHANNELS[row["channel"]], row) for row in rows]


def _open_session(channel: Channel, row: dict[str, Any]) -> OpenSession:
    """An open session from its row."""
    try:
        made = datetime.fromisoformat(row["created_at"]) if row["created_at"] else None
        made = made.replace(tzinfo=UTC) if made and made.tzinfo is None else made
    except (ValueError, TypeError) as error:
        # PostgreSQL has moments that Python has not: infinity, and years after 9999.
        odd.note("session", row["id"], error)
        made = None
    return OpenSession(channel, UUID(row["id"]), row["status"], made)
