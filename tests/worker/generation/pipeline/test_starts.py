"""The start of a session whose worker has vanished; whole kills are in tests/chaos."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker.errors import ConsentMissing, Orphaned
from worker.generation import keys
from worker.generation.message import GenerationMessage
from worker.generation.outcome import Outcome
from worker.generation.pauses.pauses import Pauses
from worker.generation.pipeline.expiry import Expiry
from worker.generation.pipeline.starts import Starts
from worker.generation.run import Run, SessionTaken
from worker.generation.sessions.leases import Leases
from worker.generation.sessions.marks import Stage
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.settings import Settings

#: Takes the lease of a message's session for a worker of this name.
Take = Callable[..., Awaitable[tuple[Starts, Run]]]


@pytest.fixture
def take(settings: Settings, redis: Redis, sessions: Sessions) -> Take:
    async def taken(message: GenerationMessage, worker: str = "one") -> tuple[Starts, Run]:
        leases = Leases(redis, worker, 30)
        lease = await leases.acquire(message.session_id)
        assert lease
        starts = Starts(sessions, leases, Settlement(redis, sessions), Expiry(Pauses(redis), settings))
        return starts, Run(message, lease)

    return taken


async def test_a_picture_that_a_vanished_worker_paid_for_is_rescued_however_old_its_message_is(
    sandbox: Sandbox, redis: Redis, sessions: Sessions, take: Take
) -> None:
    queued = sandbox.producer.b2c(push=False)
    old = datetime.now(UTC) - timedelta(hours=2)
    message = GenerationMessage(**{**queued.message, "created_at": old.isoformat()})
    vanished = Leases(redis, "vanished", 30)
    lease = await vanished.acquire(message.session_id)
    assert lease
    await sessions.start(message.session, message.owner_id)
    await vanished.note(lease, Stage.PAID)
    await redis.delete(keys.lease(message.session_id))
    starts, run = await take(message, "next")
    assert await starts.start(run) is False


@pytest.mark.parametrize("fault", [{"kind": "drop_after"}, {"kind": "replaced", "body": "no object"}])
async def test_a_start_whose_answer_was_lost_is_this_workers(
    sandbox: Sandbox, take: Take, fault: dict[str, Any]
) -> None:
    message = GenerationMessage(**sandbox.producer.b2c(push=False).message)
    starts, run = await take(message)
    sandbox.gateway.fault(**fault, on="rpc/start_generation", times=1)
    assert await starts.start(run)


@pytest.mark.parametrize("kind", ["unavailable", "pool_exhausted"])
async def test_a_start_that_the_database_has_refused_takes_no_session_from_another_worker(
    sandbox: Sandbox, sessions: Sessions, take: Take, kind: str
) -> None:
    """That worker is on another Redis, so nothing here shows that it has the session."""
    message = GenerationMessage(**sandbox.producer.b2c(push=False).message)
    assert (await sessions.start(message.session, message.owner_id)).changed
    starts, run = await take(message)
    sandbox.gateway.fault(kind, on="rpc/start_generation", times=1)
    with pytest.raises(SessionTaken):
        await starts.start(run)
    assert await starts.requeue(run, "not_started")
    assert sandbox.session("b2c", str(message.session_id))["status"] == "processing"


@pytest.mark.parametrize(
    ("status", "raised"), [("failed", Orphaned), ("completed", SessionTaken), ("queued", SessionTaken)]
)
async def test_a_session_that_was_ended_meanwhile_gets_no_paid_call(
    sandbox: Sandbox, take: Take, status: str, raised: type[Exception]
) -> None:
    queued = sandbox.producer.b2b(push=False)
    message = GenerationMessage(**queued.message)
    starts, run = await take(message)
    assert await starts.start(run)
    await starts.check_open(run)
    sandbox.database.execute(
        "update store_generation_sessions set status = $2 where id = $1", queued.session_id, status
    )
    with pytest.raises(raised):
        await starts.check_open(run)


async def test_a_store_session_that_is_failed_during_the_wait_for_a_retry_is_refunded(
    sandbox: Sandbox, sessions: Sessions, take: Take
) -> None:
    """An uninstall fails the store's queued sessions without a refund."""
    queued = sandbox.producer.b2b(push=False)
    message = GenerationMessage(**queued.message)
    starts, run = await take(message)
    assert await starts.start(run)
    await sessions.requeue(message.session)
    sandbox.database.execute("update store_generation_sessions set status = 'failed' where status = 'queued'")
    with pytest.raises(Orphaned) as failed:
        await starts.restart(run)
    await starts.settlement.settle(Outcome.failed(message.session, failed.value))
    assert sandbox.balance_changes(queued.owner_id)[-2:] == [-1, 1]


async def test_a_worker_that_stood_still_during_the_wait_for_a_retry_leaves_the_session_where_it_is(
    sandbox: Sandbox, redis: Redis, sessions: Sessions, take: Take
) -> None:
    """Another worker took the session over and has requeued it: its message waits for a start."""
    message = GenerationMessage(**sandbox.producer.b2c(push=False).message)
    starts, run = await take(message, "late")
    assert await starts.start(run)
    await sessions.requeue(message.session)
    await redis.delete(keys.lease(message.session_id))
    other, taken = await take(message, "next")
    assert await other.start(taken)
    assert await other.requeue(taken, "paused")
    await other.leases.release(taken.lease)
    with pytest.raises(SessionTaken):
        await starts.restart(run)
    assert sandbox.session("b2c", str(message.session_id))["status"] == "queued"


@pytest.mark.parametrize(
    "named",
    [
        *({}, {"consent_version": "2026-11"}, {"age_verified": True}, {"consent_version": None, "age_verified": True}),
        *({"consent_version": "", "age_verified": True}, {"consent_version": "2026-11", "age_verified": False}),
        {"consent_version": "2026-11", "age_verified": True},
    ],
)
async def test_a_required_consent_is_asked_for_at_the_start_and_passed_on(
    sandbox: Sandbox, settings: Settings, redis: Redis, sessions: Sessions, named: dict[str, Any]
) -> None:
    complete = named == {"consent_version": "2026-11", "age_verified": True}
    for required in (False, True):
        queued = sandbox.producer.b2c(push=False)
        message = GenerationMessage(**{**queued.message, **named})
        assert message.consent == {name: value for name, value in named.items() if value is not None}
        leases = Leases(redis, "a", 30)
        settlement = Settlement(redis, sessions)
        starts = Starts(sessions, leases, settlement, Expiry(Pauses(redis), settings), require_consent=required)
        lease = await leases.acquire(message.session_id)
        assert lease
        if complete or not required:
            run = Run(message, lease)
            assert await starts.start(run) is True
            assert message.consent.items() <= run.facts.items()  # for the session's event
            continue
        with pytest.raises(ConsentMissing) as missing:
            await starts.start(Run(message, lease))
        await settlement.settle(Outcome.failed(message.session, missing.value))
        row = sandbox.session("b2c", queued.session_id)
        assert (row["status"], row["error_message"]) == ("failed", ConsentMissing.user_message)
        assert sandbox.balance_changes(queued.owner_id)[-2:] == [-1, 1]
