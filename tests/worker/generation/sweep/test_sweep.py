"""Keys and sessions that a sweep leaves to a worker that comes back; whole sweeps are in tests/chaos."""

import asyncio
import json
from collections.abc import Callable
from unittest.mock import AsyncMock, Mock
from uuid import UUID

import pytest
from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker.errors import WorkerLost
from worker.generation import keys
from worker.generation.channel import Channel, SessionRef
from worker.generation.pauses.pauses import Pauses
from worker.generation.queue.claims import Claims
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.sessions.leases import Leases
from worker.generation.sessions.ownership import Ownership
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.generation.sweep import sweep
from worker.generation.sweep.open_sessions import AllSessions, OpenSession
from worker.generation.sweep.stuck import Stuck, StuckSession
from worker.generation.sweep.sweep import Sweeper
from worker.settings import Settings


@pytest.fixture
def progress() -> Mock:
    """Counts how often the sweeper shows itself."""
    return Mock()


@pytest.fixture
def sweeper(
    redis: Redis, sessions: Sessions, database: AsyncPostgrestClient, settings: Settings, progress: Mock
) -> Sweeper:
    claims, settlement = Claims(redis, "sweeping", lease_seconds=30), Settlement(redis, sessions)
    stuck = Stuck(
        settings,
        claims=claims,
        ownership=Ownership(redis),
        pauses=Pauses(redis),
        sessions=AllSessions(database, progress),
        settlement=settlement,
    )
    return Sweeper(
        redis,
        claims=claims,
        settlement=settlement,
        dead_letters=DeadLetters(redis, 10, 1 << 20),
        stuck=stuck,
        on_progress=progress,
    )


async def test_a_worker_whose_session_was_ended_cannot_take_its_lease_back(
    sandbox: Sandbox, redis: Redis, sessions: Sessions, sweeper: Sweeper
) -> None:
    queued = sandbox.producer.b2c(push=False)
    leases = Leases(redis, "frozen", seconds=0.2)
    lease = await leases.acquire(queued.message["session_id"])
    assert lease
    await sessions.start(SessionRef(Channel.B2C, queued.message["session_id"]), queued.message["user_id"])
    await asyncio.sleep(0.3)
    assert await sweeper.sweep() == 1
    assert sandbox.balance_changes(queued.owner_id) == [10, -1, 1]
    assert not await leases.keep(lease), "it would call OpenAI for a session that was refunded"


async def test_the_sweeper_shows_itself_with_every_answer_of_a_slow_database(sweeper: Sweeper, progress: Mock) -> None:
    """Also when there is nothing to end: a long sweep is no hung one."""
    assert await sweeper.sweep() == 0
    # Two tables, asked for two kinds of sessions.
    assert progress.call_count == 4


async def test_an_outage_in_the_middle_of_an_end_ends_the_round_and_not_the_container(
    sandbox: Sandbox, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither Redis nor the database takes the outcome: the next round finds the session again."""
    queued = sandbox.producer.b2c(push=False)
    lost = OpenSession(Channel.B2C, UUID(queued.session_id), "queued")
    monkeypatch.setattr(sweep, "_END_SECONDS", 0.2)
    monkeypatch.setattr(Stuck, "find", AsyncMock(return_value=[StuckSession(lost, WorkerLost("no worker"))]))
    monkeypatch.setattr(Settlement, "settle", lambda *_: asyncio.Event().wait())
    async with asyncio.timeout(5) as patience:
        with pytest.raises(TimeoutError):
            await sweeper.sweep()
    assert not patience.expired()
    assert sandbox.session("b2c", queued.session_id)["status"] == "queued"


async def test_a_second_instance_sweeps_only_when_the_first_is_dead(redis: Redis, sweeper: Sweeper) -> None:
    await redis.set(keys.SWEEP_LOCK, "first")
    await redis.set(keys.alive("first"), 1)
    await Claims(redis, "dead", 30).heartbeat()
    await redis.delete(keys.alive("dead"))
    await sweeper.sweep()
    assert await redis.get(keys.SWEEP_LOCK) == b"first"
    assert [instance.name for instance in await Claims(redis, "", 1).instances()] == ["dead"]
    await redis.delete(keys.alive("first"))
    await sweeper.sweep()
    assert await redis.exists(keys.SWEEP_LOCK) == 0
    assert await Claims(redis, "", 1).instances() == []


async def test_a_lock_that_redis_kept_from_an_earlier_sweep_delays_no_sweep(
    sandbox: Sandbox, redis: Redis, sweeper: Sweeper
) -> None:
    """The answer to the unlock was lost, or Redis has lost its last second."""
    await sweeper.claims.heartbeat()
    await Claims(redis, "neighbour", 30).heartbeat()
    await redis.set(keys.SWEEP_LOCK, sweeper.claims.instance)
    queued = sandbox.producer.b2c(push=False)
    sandbox.database.execute("update generation_sessions set created_at = now() - interval '2 hours'")
    assert await sweeper.sweep() == 1
    assert sandbox.balance_changes(queued.owner_id) == [10, -1, 1]
    assert await redis.exists(keys.SWEEP_LOCK) == 0


async def test_messages_of_a_dead_instance_are_taken_over_in_order_and_in_a_full_redis(
    sandbox: Sandbox, redis: Redis, sweeper: Sweeper, full: Callable[[], None]
) -> None:
    queued = [sandbox.producer.b2c() for _ in range(25)]
    dead = Claims(redis, "dead", 30)
    await dead.heartbeat()
    for _ in queued:
        assert await dead.take(1)
    held = await Leases(redis, "living", seconds=30).acquire(UUID(queued[3].session_id))
    assert held
    await redis.delete(keys.alive("dead"))
    full()
    await sweeper.sweep()
    waiting = [json.loads(payload)["session_id"] for payload in sandbox.redis.lrange(keys.QUEUE, 0, -1)]
    assert waiting[::-1] == [each.session_id for each in queued if each is not queued[3]]
    assert await dead.count() == 1
    assert [instance.name for instance in await dead.instances()] == ["dead"]
