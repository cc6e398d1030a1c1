"""The erasure of one user's or store's pictures, addresses and kept messages, whatever their age."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from worker.generation.channel import Channel
from worker.generation.data_life import areas
from worker.generation.data_life.bucket import Bucket
from worker.generation.data_life.purge import Report
from worker.generation.data_life.remains import Remains
from worker.generation.data_life.removal import Removal
from worker.generation.data_life.rows import Rows
from worker.generation.data_life.walk import Walk

_EVER = datetime.max.replace(tzinfo=UTC)


class Erasure:
    """Keeps the data of open sessions: repeat the erasure once the report names none."""

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
        for folder in areas.folders_of(channel, owner_id):
            await walk.folder(folder)
        report.seconds += time.monotonic() - start
