"""Leases: one holder at a time, kept while it works, and marks of those who vanished."""

import asyncio
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from tests.sandbox.proxy import Proxy
from worker import clients
from worker.generation import keys
from worker.generation.sessions.leases import Leases
from worker.generation.sessions.marks import Stage
from worker.generation.sessions.ownership import Ownership
from worker.settings import Settings

SECONDS = 1.5


@pytest.fixture
def leases(redis: Redis) -> Leases:
    return Leases(redis, "one", SECONDS)


async def renewing(leases: Leases, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await leases.renew_forever()


async def test_a_session_has_one_holder(redis: Redis, leases: Leases) -> None:
    session = uuid4()
    assert await leases.acquire(session)
    assert await leases.acquire(session) is None
    assert await Leases(redis, "two", SECONDS).acquire(session) is None


async def test_a_released_lease_is_free_and_leaves_nothing(redis: Redis, leases: Leases) -> None:
    lease = await leases.acquire(uuid4())
    assert lease
    await leases.release(lease)
    assert await redis.keys("*") == []
    assert leases.held == 0


async def test_a_lease_is_kept_while_it_is_renewed_and_runs_out_when_it_is_not(leases: Leases) -> None:
    session = uuid4()
    assert await leases.acquire(session)
    await renewing(leases, 2 * SECONDS)
    assert await leases.acquire(session) is None
    await asyncio.sleep(1.2 * SECONDS)
    assert await leases.acquire(session)


async def test_a_lease_that_ran_out_is_taken_back_when_nobody_else_has_it(redis: Redis, leases: Leases) -> None:
    session = uuid4()
    assert await leases.acquire(session)
    await redis.delete(keys.lease(session))
    await renewing(leases, 0.7 * SECONDS)
    assert await redis.exists(keys.lease(session))


async def test_the_late_holder_of_a_lost_lease_does_not_disturb_the_new_one(redis: Redis, leases: Leases) -> None:
    session = uuid4()
    late = await leases.acquire(session)
    assert late
    await redis.delete(keys.lease(session))
    assert await Leases(redis, "two", SECONDS).acquire(session)
    await leases.release(late)
    holder: Any = await redis.get(keys.lease(session))
    assert holder.startswith(b"two:")
    assert await redis.exists(keys.begun(session))


async def test_a_late_holder_leaves_what_a_later_worker_has_paid_for(redis: Redis, leases: Leases) -> None:
    """The process stood still; the worker after it has vanished, too, in the middle of its call."""
    session = uuid4()
    late = await leases.acquire(session)
    assert late
    await redis.delete(keys.lease(session))
    later = Leases(redis, "later", SECONDS)
    second = await later.acquire(session)
    assert second
    assert await later.note(second, Stage.CALLING)
    await redis.delete(keys.lease(session))
    paid = await redis.get(keys.begun(session))
    assert not await leases.note(late, Stage.CALLING)
    assert not await leases.keep(late)
    await leases.release(late)
    assert await redis.get(keys.begun(session)) == paid
    rescuer = await leases.acquire(session)
    assert rescuer
    await redis.delete(keys.lease(session))
    assert await leases.keep(rescuer)  # no other worker has come after
    await leases.release(rescuer)
    assert await redis.keys("*") == []


async def test_whoever_comes_after_a_vanished_holder_is_not_the_first(redis: Redis, leases: Leases) -> None:
    session = uuid4()
    first = await leases.acquire(session)
    await redis.delete(keys.lease(session))
    second = await leases.acquire(session)
    assert first
    assert second
    assert (first.first, second.first) == (True, False)


async def test_a_session_that_is_preempted_before_its_start_counts_no_start(redis: Redis, leases: Leases) -> None:
    """One worker died with it; bulk may be preempted many times while it waits in its slot."""
    session = uuid4()
    assert await Leases(redis, "vanished", SECONDS).acquire(session)
    await redis.delete(keys.lease(session))
    for _ in range(4):
        lease = await leases.acquire(session)
        assert lease
        assert (lease.mark.starts, lease.first) == (2, False)
        await leases.release(lease, keep_mark=True)
        await leases.release(lease, keep_mark=True)  # the first answer was lost
    await redis.set(keys.begun(session), "paid 1 vanished:1 {}")
    paid = await leases.acquire(session)
    assert paid
    await leases.release(paid, keep_mark=True)
    assert await redis.get(keys.begun(session)) == b"paid 1 vanished:1 {}"


async def test_leases_of_a_dead_process_are_dropped_and_those_of_others_are_not(redis: Redis, leases: Leases) -> None:
    mine, others = uuid4(), uuid4()
    await leases.acquire(mine)
    await Leases(redis, "one-more", SECONDS).acquire(others)
    await Ownership(redis).release_all("one", [mine, others])
    assert not await redis.exists(keys.lease(mine))
    assert await redis.exists(keys.lease(others))


async def test_a_thousand_leases_in_a_distant_redis_are_all_kept(sandbox: Sandbox, settings: Settings) -> None:
    """They are renewed together while the crowd is still coming, which takes longer than a lease."""
    with Proxy(sandbox.valkey.port, round_trip_seconds=0.15) as far:
        distant = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{far.port}/0"})
        async with clients.redis_client(distant) as redis:
            leases = Leases(redis, "one", 4.0)
            keeping = asyncio.create_task(leases.renew_forever())
            taken = await asyncio.gather(*(leases.acquire(uuid4()) for _ in range(1000)))
            await asyncio.sleep(5)
            assert leases.held == 1000
            assert len(list(sandbox.redis.scan_iter(keys.lease("*"), count=5000))) == 1000
            await asyncio.gather(*(leases.release(lease) for lease in taken if lease))
            keeping.cancel()
    assert list(sandbox.redis.scan_iter("*")) == []


async def test_all_leases_are_renewed_by_one_command(redis: Redis, leases: Leases) -> None:
    for _ in range(20):
        await leases.acquire(uuid4())
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await renewing(leases, SECONDS)
    # Three times per lease time, whatever their number.
    assert 1 <= (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before <= 3
    assert leases.held == 20
