"""Every write that a full Redis has to take. Claims and dead letters have tests of their own."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from tests.sandbox import Sandbox
from worker.errors import WorkerLost
from worker.generation import keys
from worker.generation.channel import Channel, SessionRef
from worker.generation.limiter import Limiter
from worker.generation.outcome import Outcome
from worker.generation.pauses.breaker import ATTEMPT, Attempt, Breaker
from worker.generation.pauses.pauses import Pauses
from worker.generation.room import InsistingRedis, insist
from worker.generation.sessions.leases import Leases
from worker.generation.sessions.ownership import Ownership
from worker.generation.sessions.rejected import Rejected
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.settings import Settings


@pytest.fixture(autouse=True)
async def filled(redis: Redis, full: Callable[[], None]) -> None:
    """Redis is full before each test begins."""
    full()
    with pytest.raises(OutOfMemoryError):
        await redis.set("any", 1)


async def test_one_command_is_taken(redis: Redis) -> None:
    assert await insist(redis, "HSET", "hash", "field", b"\xff") == 1
    assert await redis.hget("hash", "field") == b"\xff"


def test_a_message_for_celery_is_taken(sandbox: Sandbox) -> None:
    with InsistingRedis.from_url(sandbox.redis_url) as client:
        assert client.lpush("queue", "message") == 1
        assert client.llen("queue") == 1


async def test_leases_are_taken_kept_and_released(redis: Redis) -> None:
    leases, session_id = Leases(redis, "one", 30), uuid4()
    lease = await leases.acquire(session_id)
    assert lease
    assert lease.first
    assert await leases.keep(lease)
    await redis.delete(keys.lease(session_id))
    assert await leases.keep(lease), "its session has not been ended"
    await leases.release(lease)
    assert not await Ownership(redis).is_held(session_id)


async def test_calls_get_their_turn(redis: Redis) -> None:
    limiter = Limiter(redis, per_minute=2)
    for _ in range(2):
        await limiter.acquire()
    assert (await limiter.usage()).calls == 2


async def test_pauses_begin_probe_and_end(redis: Redis) -> None:
    pauses = Pauses(redis)
    assert await pauses.begin("quota_exhausted", 0, "")
    assert await pauses.take_probe("one")
    assert await pauses.give_probe("one", "session")
    assert await pauses.renew_probe("session")
    assert await pauses.end(session="session")
    assert await pauses.stop("maintenance")
    assert await pauses.resume()
    assert len((await pauses.times()).paused) == 2


async def test_the_breaker_counts(redis: Redis, settings: Settings) -> None:
    ATTEMPT.set(Attempt(uuid4(), probe=False))
    breaker = Breaker(redis, settings)
    await breaker.answered(available=False)
    await breaker.failed()
    assert await redis.llen(keys.OPENAI_ANSWERS) == 1


async def test_outcomes_are_kept_and_set_aside(redis: Redis, sessions: Sessions) -> None:
    outcome = Outcome.failed(SessionRef(Channel.B2C, uuid4()), WorkerLost("gone"))
    settlement, rejected = Settlement(redis, sessions), Rejected(redis)
    await settlement.defer(outcome)
    assert await settlement.known([outcome.session_id, uuid4()]) == {outcome.session_id}
    await rejected.add(str(outcome.session_id), outcome.model_dump_json(), "no")
    assert not await redis.exists(keys.SETTLEMENTS)
    (kept,) = await rejected.list()
    assert await rejected.retry(kept)
    assert await redis.hvals(keys.SETTLEMENTS) == [outcome.model_dump_json().encode()]


async def test_deaths_are_counted(redis: Redis) -> None:
    ownership, session_id = Ownership(redis), uuid4()
    assert [await ownership.count_death(session_id, name) for name in ("one", "one", "two")] == [1, 1, 2]
