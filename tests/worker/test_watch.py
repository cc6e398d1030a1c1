"""When the watch lets the sweeper look."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker.generation.claims import Claims
from worker.health import Health
from worker.watch import Watch

LEASE_SECONDS = 2.0


class Sweeper:
    swept = 0

    async def sweep(self) -> None:
        self.swept += 1


@pytest.fixture
async def redis(sandbox: Sandbox) -> AsyncIterator[Redis]:
    async with Redis.from_url(sandbox.redis_url) as client:
        yield client


async def test_no_sweep_after_a_silence_in_which_leases_may_have_run_out(redis: Redis) -> None:
    """Its own heartbeat need not have run out: it may have been younger than the leases."""

    async def nothing() -> None: ...

    sweeper = Sweeper()
    needed: dict[str, Any] = {
        "claims": Claims(redis, "one", LEASE_SECONDS),
        "sweeper": sweeper,
        "consumer": SimpleNamespace(reforward=nothing),
        "sessions": None,
        "database": None,
    }
    settings: Any = SimpleNamespace(lease_seconds=LEASE_SECONDS)
    watch = Watch(settings, Health(), **needed)
    await watch.join()
    await watch.sweep()
    assert sweeper.swept == 1
    await asyncio.sleep(LEASE_SECONDS * 0.7)
    await watch.sweep()
    assert sweeper.swept == 1
    async with asyncio.timeout(10):
        while sweeper.swept == 1:
            await asyncio.sleep(0.1)
            await watch.sweep()
