"""The bucket as the walk sees it: pages of folders, and removals that say what is gone. Bounded in rate, retried."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from storage3 import AsyncStorageClient

from worker.errors import ServiceUnavailable, WorkerError
from worker.generation.retrying import retry_for
from worker.generation.supabase.storage_answers import FAILURES, Answer, Meaning, read

#: Entries of one page, and names of one removal; the server takes no more names.
PAGE = 1000
#: A shorter page is a folder's last; the server may give less than was asked for.
_SURELY_CUT = 100
#: Longest outage of Storage that is waited out.
_PATIENCE_SECONDS = 60.0


class BucketRefused(WorkerError):
    """Storage refuses every call for good: the key or the bucket is wrong."""


class NameRefused(WorkerError):
    """Storage refuses the call for good, perhaps for one of its names."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder. `created_at` is None for a folder, and for an object whose date cannot be read."""

    name: str
    is_folder: bool
    created_at: datetime | None
    size: int

    @classmethod
    def read(cls, row: dict[str, Any]) -> Self:
        """Read one row of a listing; raise ValueError, KeyError or TypeError."""
        name, size = row["name"], (row.get("metadata") or {}).get("size")
        if not isinstance(name, str):
            raise TypeError(f"name is {type(name).__name__}")
        return cls(name, row["id"] is None, _moment(row.get("created_at")), size if isinstance(size, int) else 0)


class Bucket:
    """Every method raises ServiceUnavailable after some patience, BucketRefused, and `page` NameRefused."""

    def __init__(self, client: AsyncStorageClient, name: str, requests_per_second: float) -> None:
        self.name = name
        self._bucket = client.from_(name)
        self._pause = 1 / requests_per_second
        self._next_at = 0.0

    async def page(self, folder: str, offset: int) -> tuple[list[Entry], bool]:
        """Entries of a folder by name, and a flag for the last page."""

        async def once() -> list[Entry]:
            options: Any = {"limit": PAGE, "offset": offset, "sortBy": {"column": "name", "order": "asc"}}
            rows = await self._call("listing of a folder", lambda: self._bucket.list(folder, options))
            try:
                return [Entry.read(row) for row in rows]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ServiceUnavailable(f"Storage answered with an unusable listing: {error!r}") from error

        entries = await retry_for(_PATIENCE_SECONDS)(once)
        return entries, len(entries) < _SURELY_CUT

    async def remove(self, names: list[str]) -> set[str]:
        """Remove objects. Return the names that this call has removed."""
        try:
            removed = await self._remove(names)
            left = [name for name in names if name not in removed]
            # Perhaps only some were removed. If none were, they were gone before.
            return removed | (await self._remove(left) if left and removed else set())
        except NameRefused:
            half = len(names) // 2
            return await self.remove(names[:half]) | await self.remove(names[half:]) if half else set()

    async def _remove(self, names: list[str]) -> set[str]:
        lost = False

        async def once() -> set[str]:
            nonlocal lost
            try:
                rows = await self._call("removal", lambda: self._bucket.remove(names))
                return {row["name"] for row in rows} & set(names)
            except (ServiceUnavailable, KeyError, TypeError) as error:
                # The removal may have been done all the same: then the next answer does not name the objects.
                lost = True
                raise ServiceUnavailable(str(error)) from error

        removed = await retry_for(_PATIENCE_SECONDS)(once)
        return set(names) if lost else removed

    async def _call(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await self._turn()
        try:
            return await call()
        except FAILURES as failure:
            raise _error(read(failure), what) from failure

    async def _turn(self) -> None:
        """Wait until the next request may be sent."""
        now = time.monotonic()
        self._next_at = max(now, self._next_at + self._pause)
        await asyncio.sleep(self._next_at - now)


def _error(answer: Answer, what: str) -> WorkerError:
    text = f"{what}: {answer.detail}"
    if answer.meaning is Meaning.AWAY:
        return ServiceUnavailable(text)
    return BucketRefused(text) if answer.meaning is Meaning.ACCOUNT else NameRefused(text)


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment and moment.tzinfo else None
