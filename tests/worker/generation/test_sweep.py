"""What the sweeper leaves behind for a worker that comes back; whole sweeps are in tests/chaos."""

import asyncio
from unittest.mock import Mock

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker.generation.channel import Channel, SessionRef
from worker.generation.claims import Claims
from worker.generation.dead_letters import DeadLetters
from worker.generation.leases import Leases
from worker.generation.sessions import Sessions
from worker.generation.settlement import Settlement
from worker.generation.sweep import Sweeper


@pytest.fixture
def progress() -> Mock:
    """Counts how often the sweeper shows itself."""
    return Mock()


@pytest.fixture
def sweeper(redis: Redis, sessions: Sessions, progress: Mock) -> Sweeper:
    return Sweeper(
        claims=Claims(redis, "sweeping", lease_seconds=30),
        sessions=sessions,
        settlement=Settlement(redis, sessions),
        dead_letters=DeadLetters(redis, 10),
        orphan_grace_seconds=60,
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


async def test_the_sweeper_shows_itself_with_every_answer_of_a_slow_database(
    sandbox: Sandbox, sweeper: Sweeper, progress: Mock
) -> None:
    """Also when there is nothing to end: a long sweep is no hung one."""
    assert await sweeper.sweep() == 0
    # Two tables, asked for two kinds of sessions, each until an empty page comes.
    assert progress.call_count == 4
