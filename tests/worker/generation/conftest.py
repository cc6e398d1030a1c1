"""Clients on the sandbox for tests of single modules."""

from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker import clients
from worker.generation.sessions.sessions import Sessions
from worker.generation.sweep.open_sessions import AllSessions
from worker.settings import Settings


@pytest.fixture
def settings(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The worker's settings in the sandbox."""
    for name, value in sandbox.env().items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    """A client of the sandbox's Valkey, as the worker makes it."""
    async with clients.redis_client(settings) as client:
        yield client


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[AsyncPostgrestClient]:
    """The database through the gateway."""
    async with httpx.AsyncClient(timeout=5) as http:
        yield clients.database_client(settings, http)


@pytest.fixture
def sessions(database: AsyncPostgrestClient) -> Sessions:
    """Session rows."""
    return Sessions(database)


@pytest.fixture
def open_sessions(database: AsyncPostgrestClient) -> AllSessions:
    """Open sessions, as the sweep reads them."""
    return AllSessions(database)


@pytest.fixture
def full(sandbox: Sandbox) -> Iterator[Callable[[], None]]:
    """A function that leaves the sandbox's Valkey without room: from then on it refuses what could take memory."""

    def fill() -> None:
        sandbox.redis.config_set("maxmemory", 1)

    yield fill
    sandbox.redis.config_set("maxmemory", 0)
