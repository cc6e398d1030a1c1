"""Old pictures in batches: those of open sessions stay, all others are removed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from worker.generation.data_life import areas
from worker.generation.data_life.bucket import PAGE, Bucket
from worker.generation.data_life.rows import Rows
from worker.generation.data_life.tally import Tally
from worker.logs import get_logger

log = get_logger(__name__)

#: Of the names in a batch; Storage takes requests of a megabyte.
_BATCH_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Old:
    """A picture to remove, and the function to call with true if the picture stays."""

    name: str
    size: int
    created_at: datetime | None
    settle: Callable[[bool], None]


class Removal:
    """Collects until a batch is full; `flush` empties the rest."""

    def __init__(
        self, bucket: Bucket, rows: Rows, tally: Tally, *, dry_run: bool, check: Callable[[], None] = lambda: None
    ) -> None:
        self._bucket = bucket
        self._rows = rows
        self._tally = tally
        self._dry_run = dry_run
        #: Raises when this process may not delete any more.
        self._check = check
        self._batch: list[Old] = []
        self._bytes = 0
        self._lock = asyncio.Lock()

    async def add(self, old: Old) -> None:
        """Remove the picture with the next batch."""
        async with self._lock:
            self._batch.append(old)
            self._bytes += len(old.name.encode())
            if len(self._batch) >= PAGE or self._bytes >= _BATCH_BYTES:
                await self._empty()

    async def flush(self) -> None:
        """Return once all that was added is removed, or stays."""
        async with self._lock:
            await self._empty()

    async def _empty(self) -> None:
        batch, self._batch, self._bytes = self._batch, [], 0
        if not batch:
            return
        in_use = await self._rows.in_use(self._bucket.name, [old.name for old in batch])
        unused = [old.name for old in batch if old.name not in in_use]
        gone = set(unused) if self._dry_run else await self._remove(unused)
        for old in batch:
            area = areas.area_of(old.name)
            if area and old.name in gone:
                self._tally.remove(area, old.size, old.created_at)
            else:
                self._tally.in_use += old.name in in_use
                self._tally.failures += old.name not in in_use
                self._tally.leave(old.created_at)
            # Another program may have removed the object; then the next page begins earlier.
            old.settle(self._dry_run or old.name in in_use)

    async def _remove(self, names: list[str]) -> set[str]:
        """The last gate: only names of pictures are sent, whatever the walk says."""
        self._check()
        pictures = [name for name in names if areas.area_of(name)]
        gone = await self._bucket.remove(pictures) if pictures else set()
        if len(gone) < len(names):
            log.warning("pictures_not_removed", count=len(names) - len(gone))
        return gone
