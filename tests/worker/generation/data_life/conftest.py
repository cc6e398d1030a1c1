"""A bucket in this process behind the real client, and the tools of a purge in the sandbox."""

from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from tests.worker.generation.data_life.world import Bench
from worker import clients
from worker.generation.data_life import bucket, removal
from worker.generation.data_life.tools import Tools
from worker.settings import Settings


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of a few entries have several pages."""
    for module in (bucket, removal):
        monkeypatch.setattr(module, "PAGE", 5)
    monkeypatch.setattr(bucket, "_SURELY_CUT", 5)


@pytest.fixture
async def bench(small_pages: None) -> AsyncIterator[Bench]:
    async with Bench.opened() as made:
        yield made


@pytest.fixture
async def tools(settings: Settings, redis: Redis) -> AsyncIterator[Tools]:
    """Over the sandbox's gateway, database and Valkey."""
    fast = settings.model_copy(update={"data_life_requests_per_second": 1000})
    async with httpx.AsyncClient(timeout=5) as database, httpx.AsyncClient(timeout=5) as storage:
        yield Tools(fast, clients.database_client(fast, database), clients.storage_client(fast, storage), redis)
