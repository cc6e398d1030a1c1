"""The start of a session whose worker has vanished; whole kills are in tests/chaos."""

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


async def test_a_picture_that_a_vanished_worker_paid_for_is_rescued_however_old_its_message_is(
    sandbox: Sandbox, settings: Settings, redis: Redis, sessions: Sessions
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
    leases = Leases(redis, "next", 30)
    starts = Starts(sessions, leases, Settlement(redis, sessions), Expiry(Pauses(redis), settings))
    again = await leases.acquire(message.session_id)
    assert again
    assert await starts.start(Run(message, again)) is False


@pytest.mark.parametrize(
    ("status", "raised"), [("failed", Orphaned), ("completed", SessionTaken), ("queued", SessionTaken)]
)
async def test_a_session_that_was_ended_meanwhile_gets_no_paid_call(
    sandbox: Sandbox, settings: Settings, redis: Redis, sessions: Sessions, status: str, raised: type[Exception]
) -> None:
    queued = sandbox.producer.b2b(push=False)
    message = GenerationMessage(**queued.message)
    leases = Leases(redis, "one", 30)
    lease = await leases.acquire(message.session_id)
    assert lease
    run = Run(message, lease)
    starts = Starts(sessions, leases, Settlement(redis, sessions), Expiry(Pauses(redis), settings))
    assert await starts.start(run)
    await starts.check_open(run)
    sandbox.database.execute(
        "update store_generation_sessions set status = $2 where id = $1", queued.session_id, status
    )
    with pytest.raises(raised):
        await starts.check_open(run)


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
