"""One purge of everything that is old, or the erasure of one owner: kept messages, addresses, then pictures."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from worker.generation.channel import Channel
from worker.generation.data_life.areas import ROOTS, folders_of
from worker.generation.data_life.bucket import Bucket
from worker.generation.data_life.record import Place, Record, as_moment
from worker.generation.data_life.remains import Remains, Trimmed
from worker.generation.data_life.removal import Removal
from worker.generation.data_life.rows import Expired, Rows
from worker.generation.data_life.tally import Tally
from worker.generation.data_life.walk import Walk

_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass
class Report:
    """The result of a purge or an erasure."""

    dry_run: bool
    #: The walk was the rest of an interrupted walk.
    resumed: bool = False
    pictures: Tally = field(default_factory=Tally)
    rows: Expired = field(default_factory=Expired)
    redis: Trimmed = field(default_factory=Trimmed)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {**asdict(self), "pictures": self.pictures.as_dict(), "seconds": round(self.seconds, 1)}


class Purge:
    """Everything that is older than `hours`. `run` may end at any moment, and be repeated."""

    def __init__(self, bucket: Bucket, rows: Rows, remains: Remains, record: Record, hours: int) -> None:
        self._bucket = bucket
        self._rows = rows
        self._remains = remains
        self._record = record
        self._life = timedelta(hours=hours)

    async def run(
        self,
        report: Report,
        check: Callable[[], None] = lambda: None,
        on_progress: Callable[[], None] = lambda: None,
        *,
        every_row: bool = False,
    ) -> None:
        """Purge once and grow the report. `check` raises when another process may be at it."""
        start = time.monotonic()
        before = await self._rows.now() - self._life
        trimmed = await self._remains.trim(before, dry_run=report.dry_run)
        report.redis.letters += trimmed.letters
        report.redis.outcomes += trimmed.outcomes
        if not report.dry_run:
            for channel in Channel:
                expired = await self._rows.expire(channel, before, full=every_row, on_progress=on_progress)
                report.rows.rows += expired.rows
                report.rows.open += expired.open
        await self._pictures(report, before, check, on_progress)
        report.seconds += time.monotonic() - start

    async def _pictures(
        self, report: Report, before: datetime, check: Callable[[], None], on_progress: Callable[[], None]
    ) -> None:
        tally = report.pictures
        removal = Removal(self._bucket, self._rows, tally, dry_run=report.dry_run, check=check)
        walk = Walk(self._bucket, removal, tally, before, on_progress)
        place = None if report.dry_run else await self._record.place()
        report.resumed = place is not None
        place = place or Place(ROOTS[0], 0, (before + self._life).timestamp())
        tally.leave(as_moment(place.oldest_left))
        for root in ROOTS[ROOTS.index(place.root) :]:

            async def save(offset: int, root: str = root) -> None:
                if not report.dry_run:
                    await self._record.keep_place(Place(root, offset, place.begun, _seconds(tally.oldest_left)))

            await walk.root(root, place.offset if root == place.root else 0, save)
        if not report.dry_run:
            await self._record.end(place.begun, _seconds(tally.oldest_left))


class Erasure:
    """One user's or store's data, whatever its age, except of open sessions: repeat it once they have ended."""

    def __init__(self, bucket: Bucket, rows: Rows, remains: Remains) -> None:
        self._bucket = bucket
        self._rows = rows
        self._remains = remains

    async def run(
        self, channel: Channel, owner_id: UUID, report: Report, on_progress: Callable[[], None] = lambda: None
    ) -> None:
        """Erase once and grow the report."""
        start = time.monotonic()
        owned = partial(self._rows.owned, channel, owner_id)
        report.redis = await self._remains.erase(owner_id, owned, dry_run=report.dry_run)
        if not report.dry_run:
            report.rows = await self._rows.expire(channel, _EVER, owner_id, on_progress=on_progress)
        removal = Removal(self._bucket, self._rows, report.pictures, dry_run=report.dry_run)
        walk = Walk(self._bucket, removal, report.pictures, None, on_progress)
        for folder in folders_of(channel, owner_id):
            await walk.folder(folder)
        report.seconds += time.monotonic() - start


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None
