"""The open sessions that the sweep of one region may look at, in place of all open sessions of the database."""

from collections.abc import Callable
from datetime import UTC, datetime

from worker.generation.channel import Channel
from worker.generation.region import Region
from worker.generation.sessions.sessions import OpenSession, open_session

_CHANNELS = {channel.value: channel for channel in Channel}


class OwnSessions:
    """Answers as `Sessions.open` does, with the sessions of this region and, in one region, those of none."""

    def __init__(self, region: Region) -> None:
        self._region = region

    async def open(
        self,
        statuses: list[str],
        on_progress: Callable[[], None],
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> list[OpenSession]:
        """Open sessions of both channels in these statuses; raises ServiceUnavailable."""
        # An age, by the database's clock: this host's may differ.
        older = (datetime.now(UTC) - created_before).total_seconds() if created_before else None
        rows = await self._region.open(statuses, older, limit)
        on_progress()
        return [open_session(_CHANNELS[row["channel"]], row) for row in rows]
