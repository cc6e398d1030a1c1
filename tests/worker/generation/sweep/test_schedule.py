"""The sweep waits after an outage until all instances have renewed their leases."""

import asyncio
from types import SimpleNamespace
from typing import Any

from redis.asyncio import Redis

from worker.generation.queue.claims import Claims
from worker.generation.queue.heartbeat import Heartbeat
from worker.generation.sweep.schedule import SweepSchedule
from worker.health import Health

LEASE_SECONDS = 2.0


class Sweeper:
    swept = 0

    async def sweep(self) -> None:
        self.swept += 1


async def test_no_sweep_after_a_silence_in_which_leases_may_have_run_out(redis: Redis) -> None:
    """Its own heartbeat need not have run out: it may have been younger than the leases."""

    async def nothing() -> None: ...

    sweeper: Any = Sweeper()
    consumer: Any = SimpleNamespace(reforward=nothing)
    health = Health()
    heartbeat = Heartbeat(Claims(redis, "one", LEASE_SECONDS), health, LEASE_SECONDS)
    schedule = SweepSchedule(sweeper, consumer, heartbeat, health, interval_seconds=60)
    await heartbeat.join()
    await schedule.sweep()
    assert sweeper.swept == 1
    await asyncio.sleep(LEASE_SECONDS * 0.7)
    await schedule.sweep()
    assert sweeper.swept == 1
    async with asyncio.timeout(10):
        while sweeper.swept == 1:
            await asyncio.sleep(0.1)
            await schedule.sweep()
