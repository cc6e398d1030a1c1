"""A bucket of the sandbox's Storage in this process: the real client and the real answers, without a network."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount
from storage3 import AsyncStorageClient

from tests.sandbox.supabase.gateway import _storage_error
from tests.sandbox.supabase.storage import Storage, StorageError
from worker.generation.data_life.areas import ROOTS
from worker.generation.data_life.bucket import Bucket
from worker.generation.data_life.removal import Removal
from worker.generation.data_life.rows import Rows
from worker.generation.data_life.tally import Tally
from worker.generation.data_life.walk import Walk

NAME = "bucket"
HOUR = 3600.0


@dataclass
class InUse:
    """Stands in for the database's say."""

    names: set[str] = field(default_factory=set)

    async def in_use(self, bucket: str, names: list[str]) -> set[str]:
        return self.names & set(names)


@dataclass
class Bench:
    """`old` and `young` plant objects; `walk` deletes the old ones."""

    storage: Storage
    bucket: Bucket
    used: InUse

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        storage = Storage("secret", [NAME])
        handlers: dict[Any, Any] = {StorageError: _storage_error}
        app = Starlette(routes=[Mount("/storage/v1", routes=storage.routes)], exception_handlers=handlers)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as http:
            client = AsyncStorageClient("http://supabase/storage/v1/", {}, http_client=http)
            yield cls(storage, Bucket(client, NAME, 100_000), InUse())

    def old(self, *names: str) -> None:
        self.storage.plant(NAME, [(name, 7 * HOUR, 10) for name in names])

    def young(self, *names: str) -> None:
        self.storage.plant(NAME, [(name, HOUR, 10) for name in names])

    @property
    def left(self) -> set[str]:
        return set(self.storage.paths(NAME))

    async def walk(self, *, dry_run: bool = False) -> Tally:
        """Walk all roots."""
        tally = Tally()
        removal = Removal(self.bucket, cast(Rows, self.used), tally, dry_run=dry_run)
        walk = Walk(self.bucket, removal, tally, datetime.now(UTC) - timedelta(hours=6))
        for root in ROOTS:
            await walk.root(root, 0, _nothing)
        return tally


async def _nothing(offset: int) -> None:
    pass
