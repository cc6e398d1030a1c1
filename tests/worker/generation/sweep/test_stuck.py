"""The open sessions that no worker will end, found without reading a message."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued
from worker.errors import WorkerLost
from worker.generation import keys
from worker.generation.audit.report import Report
from worker.generation.audit.stuck import check_stuck
from worker.generation.channel import Channel, SessionRef
from worker.generation.outcome import Outcome
from worker.generation.pauses.pauses import Pauses
from worker.generation.queue.claims import Claims
from worker.generation.sessions.leases import Leases
from worker.generation.sessions.ownership import Ownership
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.generation.sweep.open_sessions import AllSessions
from worker.generation.sweep.stuck import Stuck
from worker.settings import Settings

Find = Callable[..., Stuck]


@pytest.fixture
def finder(redis: Redis, sessions: Sessions, open_sessions: AllSessions, settings: Settings) -> Find:
    """A finder with some settings changed."""

    def make(**changed: object) -> Stuck:
        return Stuck(
            settings.model_copy(update=changed),
            claims=Claims(redis, "one", 30),
            ownership=Ownership(redis),
            pauses=Pauses(redis),
            sessions=open_sessions,
            settlement=Settlement(redis, sessions),
        )

    return make


async def found(finder: Stuck) -> dict[str, str]:
    """Session id to the reason of its end."""
    return {str(stuck.session.id): stuck.error.reason for stuck in await finder.find()}


def made(sandbox: Sandbox, *, minutes: float, status: str = "queued", push: bool = False, b2b: bool = False) -> Queued:
    """A session of that age; its message, if it has one, is new."""
    queued = sandbox.producer.b2b(push=push) if b2b else sandbox.producer.b2c(push=push)
    table = "store_generation_sessions" if b2b else "generation_sessions"
    sql = f"update {table} set status = $2, created_at = now() - $3 * interval '1 minute' where id = $1"
    sandbox.database.execute(sql, queued.session_id, status, minutes)
    return queued


async def begun(redis: Redis, session_id: str, *, held: bool) -> None:
    """The marks of a session that a worker of this Redis has begun."""
    assert await Leases(redis, "worker", 30).acquire(UUID(session_id))
    if not held:
        await redis.delete(keys.lease(session_id))


async def test_a_session_whose_worker_is_gone_is_found_at_once(sandbox: Sandbox, redis: Redis, finder: Find) -> None:
    lost, kept = (made(sandbox, minutes=0, status="processing") for _ in range(2))
    await begun(redis, lost.session_id, held=False)
    await begun(redis, kept.session_id, held=True)
    assert await found(finder()) == {lost.session_id: "worker_lost"}


@pytest.mark.parametrize("grace", [None, 0])
async def test_a_session_that_another_redis_has_is_left_alone_until_its_deadline(
    sandbox: Sandbox, finder: Find, grace: float | None
) -> None:
    """A laptop, or a second region, with the same database: nothing here shows who works on the session."""
    made(sandbox, minutes=59, status="processing", b2b=True)
    if grace is None:
        made(sandbox, minutes=9)
    overdue = made(sandbox, minutes=61, status="processing", b2b=True)
    assert await found(finder(orphan_grace_seconds=grace)) == {overdue.session_id: "worker_lost"}


async def test_a_queued_session_without_any_message_is_found_once_it_has_expired(
    sandbox: Sandbox, finder: Find
) -> None:
    made(sandbox, minutes=9.5)
    orphans = {made(sandbox, minutes=10.5, status=status).session_id for status in ("queued", "pending")}
    assert await found(finder()) == dict.fromkeys(orphans, "orphaned")


async def test_a_pause_of_this_intake_does_not_count(sandbox: Sandbox, redis: Redis, finder: Find) -> None:
    orphan = made(sandbox, minutes=30)
    now = int(time.time() * 1000)
    await redis.lpush(keys.PAUSES, f"{now - 28 * 60_000} {now - 6 * 60_000}")
    assert await found(finder()) == {}
    assert await found(finder(message_ttl_seconds=420)) == {orphan.session_id: "orphaned"}


async def test_a_session_whose_message_waits_behind_a_long_pause_is_not_found(
    sandbox: Sandbox, redis: Redis, finder: Find
) -> None:
    """The pause was set by hand, so nothing says since when; and the row is older than its message."""
    await redis.set(keys.INTAKE_STOPPED, "maintenance")
    made(sandbox, minutes=55, push=True)
    assert await found(finder()) == {}
    assert await found(finder(orphan_grace_seconds=1)) == {}


async def test_a_session_whose_message_is_claimed_is_not_found(sandbox: Sandbox, redis: Redis, finder: Find) -> None:
    made(sandbox, minutes=30, push=True)
    other = Claims(redis, "other", 30)
    await other.heartbeat()
    assert await other.take(1)
    assert await found(finder()) == {}


@pytest.mark.parametrize("push", [True, False])
async def test_beyond_an_hour_a_waiting_session_ends_whatever_the_queue_holds(
    sandbox: Sandbox, finder: Find, push: bool
) -> None:
    sandbox.producer.b2c()
    made(sandbox, minutes=61, push=push)  # a row may be older than its message
    expired = made(sandbox, minutes=63, push=push)
    assert await found(finder()) == {expired.session_id: "expired"}


@pytest.mark.parametrize("status", ["queued", "processing"])
async def test_bulk_has_a_day_wherever_its_message_is(
    sandbox: Sandbox, redis: Redis, finder: Find, status: str
) -> None:
    sandbox.producer.b2c()
    other, ours = (made(sandbox, minutes=90, status=status, b2b=True) for _ in range(2))
    overdue = made(sandbox, minutes=24 * 60 + 3, status=status, b2b=True)
    for it in (ours, overdue):
        await redis.lpush(keys.QUEUE, json.dumps({**it.message, "priority": "bulk"}))
    claims = Claims(redis, "one", 30)
    await claims.heartbeat()
    for _ in range(3):
        await claims.take(1)
    reason = "expired" if status == "queued" else "worker_lost"
    assert await found(finder()) == dict.fromkeys((other.session_id, overdue.session_id), reason)
    assert [it.session_id for it in (await audit(redis, ours, other)).wrong] == [other.session_id]


async def test_bulk_that_came_while_no_worker_ran_has_its_day_too(sandbox: Sandbox, redis: Redis, finder: Find) -> None:
    """The first sweep comes before the first message, so no worker has sorted the queue."""
    bulk = [made(sandbox, minutes=90, b2b=True) for _ in range(30)]
    for it in bulk:
        await redis.lpush(keys.QUEUE, json.dumps({**it.message, "priority": "bulk"}))
    assert await found(finder()) == {}


async def audit(redis: Redis, *items: Queued) -> Report:
    """The audit of sessions that have been open for two hours."""
    made = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    rows = [{"id": it.session_id, "status": "queued", "created_at": made, "store_id": it.owner_id} for it in items]
    report = Report()
    await check_stuck([(Channel.B2B, row) for row in rows], redis, report)
    return report


async def test_without_a_time_to_live_a_waiting_session_never_ends_while_there_are_messages(
    sandbox: Sandbox, redis: Redis, finder: Find
) -> None:
    old = made(sandbox, minutes=600, push=True)
    assert await found(finder(message_ttl_seconds=0)) == {}
    await redis.delete(keys.QUEUE)
    assert await found(finder(message_ttl_seconds=0)) == {old.session_id: "orphaned"}


async def test_a_grace_period_ends_orphans_of_a_redis_that_serves_alone(sandbox: Sandbox, finder: Find) -> None:
    made(sandbox, minutes=1)
    orphan = made(sandbox, minutes=3)
    assert await found(finder(orphan_grace_seconds=120)) == {orphan.session_id: "orphaned"}


@pytest.mark.parametrize("status", ["queued", "processing"])
async def test_a_session_whose_outcome_waits_is_not_found(
    sandbox: Sandbox, redis: Redis, sessions: Sessions, finder: Find, status: str
) -> None:
    waiting = made(sandbox, minutes=90, status=status)
    await begun(redis, waiting.session_id, held=False)
    session = SessionRef(Channel.B2C, UUID(waiting.session_id))
    await Settlement(redis, sessions).defer(Outcome.failed(session, WorkerLost("gone")))
    assert await found(finder()) == {}


async def test_a_session_that_waits_for_its_retry_is_not_found(sandbox: Sandbox, redis: Redis, finder: Find) -> None:
    """After a 429 its status is "queued" while its worker holds it."""
    waiting = made(sandbox, minutes=90)
    await begun(redis, waiting.session_id, held=True)
    assert await found(finder()) == {}


async def test_a_session_that_does_not_say_when_it_was_made_is_left_alone(sandbox: Sandbox, finder: Find) -> None:
    for status in ("queued", "processing"):
        queued = made(sandbox, minutes=1, status=status)
        sandbox.database.execute("update generation_sessions set created_at = null where id = $1", queued.session_id)
    assert await found(finder()) == {}
