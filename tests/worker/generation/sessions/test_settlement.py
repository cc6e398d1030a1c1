"""Outcomes reach the database exactly once, however long it is away."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker.errors import ModerationBlocked, ServiceUnavailable
from worker.generation import keys
from worker.generation.channel import Channel, SessionRef
from worker.generation.data_life.remains import Remains
from worker.generation.outcome import Outcome
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.sessions import settlement
from worker.generation.sessions.rejected import Rejected
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.metrics import REGISTRY


@pytest.fixture
def writer(redis: Redis, sessions: Sessions) -> Settlement:
    return Settlement(redis, sessions)


def failure(sandbox: Sandbox) -> tuple[Outcome, str]:
    queued = sandbox.producer.b2c(push=False)
    error = ModerationBlocked("blocked")
    return Outcome.failed(SessionRef(Channel.B2C, queued.message["session_id"]), error, 12), queued.owner_id


def counted(reason: str = ModerationBlocked.reason) -> float:
    """Failed sessions that this process has counted under this reason."""
    labels = {"channel": "b2c", "outcome": "failed", "reason": reason}
    return REGISTRY.get_sample_value("wearon_generations_total", labels) or 0.0


async def test_a_failure_is_written_with_its_refund_and_forgotten(
    sandbox: Sandbox, redis: Redis, writer: Settlement
) -> None:
    outcome, owner = failure(sandbox)
    await writer.settle(outcome)
    row = sandbox.session("b2c", outcome.session_id)
    assert (row["status"], row["error_message"]) == ("failed", ModerationBlocked.user_message)
    assert sandbox.balance_changes(owner) == [10, -1, 1]
    assert not await redis.exists(keys.SETTLEMENTS)


async def test_characters_that_the_database_cannot_hold_do_not_stop_an_outcome(
    sandbox: Sandbox, redis: Redis, writer: Settlement
) -> None:
    outcome, owner = failure(sandbox)
    await writer.settle(
        outcome.model_copy(update={"request_id": "req\0_1", "facts": {"consent_version": "\0v1", "age_verified": True}})
    )
    assert sandbox.balance_changes(owner) == [10, -1, 1]
    assert not await redis.exists(keys.SETTLEMENTS, keys.REJECTED)
    told = sandbox.database.value("select metadata from analytics_events where user_id = $1", owner)
    assert (told["request_id"], told["consent_version"], told["age_verified"]) == ("req_1", "v1", True)


async def test_a_picture_that_was_kept_for_too_long_costs_no_credit(
    sandbox: Sandbox, redis: Redis, writer: Settlement
) -> None:
    """The outcome has waited for hours, and the purge has taken its address."""
    failed, owner = failure(sandbox)
    sandbox.database.execute("update generation_sessions set status = 'processing' where id = $1", failed.session_id)
    completed = {"kind": "completed", "image_url": "https://signed.example/x?token=t", "reason": "", "user_message": ""}
    await writer.defer(failed.model_copy(update=completed))
    remains = Remains(redis, DeadLetters(redis, 100, 1_000_000))
    assert (await remains.trim(datetime.now(UTC) + timedelta(hours=6))).outcomes == 1
    await writer.settle_waiting()
    assert sandbox.session("b2c", failed.session_id)["status"] == "failed"
    assert sandbox.balance_changes(owner) == [10, -1, 1]
    assert not await redis.exists(keys.SETTLEMENTS)


@pytest.mark.parametrize(("hours", "status", "changes"), [(5, "completed", [10, -1]), (7, "failed", [10, -1, 1])])
async def test_an_address_that_has_ended_while_the_database_was_away_costs_no_credit(
    sandbox: Sandbox, redis: Redis, sessions: Sessions, hours: int, status: str, changes: list[int]
) -> None:
    """The purge needs the database, too: the settler comes first when it is back."""
    failed, owner = failure(sandbox)
    sandbox.database.execute("update generation_sessions set status = 'processing' where id = $1", failed.session_id)
    completed = {"kind": "completed", "image_url": "https://signed.example/x?token=t", "reason": "", "user_message": ""}
    writer = Settlement(redis, sessions, 6 * 3600)
    await writer.defer(failed.model_copy(update={**completed, "known_at": failed.known_at - hours * 3600}))
    await writer.settle_waiting()
    assert sandbox.session("b2c", failed.session_id)["status"] == status
    assert sandbox.balance_changes(owner) == changes


async def test_settling_again_changes_nothing_and_counts_nothing(sandbox: Sandbox, writer: Settlement) -> None:
    outcome, owner = failure(sandbox)
    before = counted()
    await writer.settle(outcome)
    # As after an outage of Redis, in which it was written and could not be forgotten.
    await writer.settle(outcome)
    await writer.defer(outcome)
    await writer.settle_waiting()
    assert sandbox.balance_changes(owner) == [10, -1, 1]
    assert counted() == before + 1


@pytest.mark.parametrize("background", [False, True])
async def test_a_failure_whose_answer_was_lost_counts_once(
    sandbox: Sandbox, writer: Settlement, background: bool
) -> None:
    outcome, _ = failure(sandbox)
    before = counted()
    sandbox.gateway.fault("drop_after", on="rpc/fail_generation", times=1)
    if background:
        await writer.defer(outcome)
        with pytest.raises(ServiceUnavailable):
            await writer.settle_waiting()
        await writer.settle_waiting()
    else:
        await writer.settle(outcome)
    assert counted() == before + 1


async def test_an_outcome_of_another_version_counts_under_a_known_reason(sandbox: Sandbox, writer: Settlement) -> None:
    outcome, _ = failure(sandbox)
    before = counted("internal")
    await writer.settle(outcome.model_copy(update={"reason": "invented_later"}))
    assert counted("internal") == before + 1


async def test_an_outcome_waits_in_redis_while_the_database_is_away(sandbox: Sandbox, writer: Settlement) -> None:
    outcome, owner = failure(sandbox)
    sandbox.gateway.fault("unavailable", on="rpc/*")
    await writer.settle(outcome)
    assert await writer.is_waiting(outcome.session_id)
    with pytest.raises(ServiceUnavailable):
        await writer.settle_waiting()
    sandbox.gateway.clear()
    assert await writer.settle_waiting() == 1
    assert sandbox.balance_changes(owner) == [10, -1, 1]
    assert not await writer.is_waiting(outcome.session_id)


async def test_one_refused_outcome_does_not_keep_the_others_waiting(sandbox: Sandbox, writer: Settlement) -> None:
    sandbox.gateway.fault("unavailable", on="rpc/*")
    outcomes = [failure(sandbox)[0] for _ in range(3)]
    for outcome in outcomes:
        await writer.defer(outcome)
    sandbox.gateway.clear()
    sandbox.gateway.fault("unavailable", on="rpc/fail_generation", times=1)
    with pytest.raises(ServiceUnavailable):
        await writer.settle_waiting()
    assert sandbox.redis.hlen(keys.SETTLEMENTS) == 1


async def test_an_outcome_is_left_to_the_worker_that_has_the_lease(
    sandbox: Sandbox, redis: Redis, writer: Settlement
) -> None:
    outcome, _ = failure(sandbox)
    await writer.defer(outcome)
    await redis.set(keys.lease(outcome.session_id), "somebody")
    assert await writer.settle_waiting() == 0
    assert await writer.is_waiting(outcome.session_id)


async def test_a_deferred_outcome_is_written_at_once_by_the_background_loop(
    sandbox: Sandbox, writer: Settlement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "_INTERVAL_SECONDS", 60.0)
    loop = asyncio.create_task(writer.settle_forever())
    outcome, _ = failure(sandbox)
    await writer.defer(outcome)
    async with asyncio.timeout(10):
        while sandbox.session("b2c", outcome.session_id)["status"] != "failed":
            await asyncio.sleep(0.02)
    loop.cancel()


@pytest.mark.parametrize("error", [ServiceUnavailable("away"), RuntimeError("odd")])
async def test_an_error_of_one_round_does_not_end_the_background_loop(
    sandbox: Sandbox, writer: Settlement, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(settlement, "_INTERVAL_SECONDS", 0.05)
    entries, errors = writer._waiting.entries, [error]

    async def fail_once() -> list[tuple[str, bytes]]:
        if errors:
            raise errors.pop()
        return await entries()

    monkeypatch.setattr(writer._waiting, "entries", fail_once)
    outcome, _ = failure(sandbox)
    await writer.defer(outcome)
    loop = asyncio.create_task(writer.settle_forever())
    async with asyncio.timeout(10):
        while sandbox.session("b2c", outcome.session_id)["status"] != "failed":
            await asyncio.sleep(0.02)
    loop.cancel()


async def test_a_lost_answer_to_the_completion_is_recognised(sandbox: Sandbox, writer: Settlement) -> None:
    queued = sandbox.producer.b2c(push=False)
    sandbox.database.execute("update generation_sessions set status = 'processing' where id = $1", queued.session_id)
    sandbox.gateway.fault("drop_after", on="rpc/complete_generation", times=1)
    outcome = Outcome(
        channel=Channel.B2C,
        session_id=queued.message["session_id"],
        kind="completed",
        processing_time_ms=5,
        image_url="https://x/y.jpg",
    )
    await writer.settle(outcome)
    assert sandbox.session("b2c", queued.session_id)["generated_image_url"] == "https://x/y.jpg"
    assert sandbox.statuses(queued.session_id) == ["queued", "processing", "completed"]
    assert not await writer.is_waiting(outcome.session_id)


async def test_a_late_completion_of_a_failed_session_is_discarded(sandbox: Sandbox, writer: Settlement) -> None:
    outcome, owner = failure(sandbox)
    await writer.settle(outcome)
    late = Outcome(
        channel=Channel.B2C,
        session_id=outcome.session_id,
        kind="completed",
        processing_time_ms=9,
        image_url="https://x/y.jpg",
    )
    await writer.settle(late)
    row = sandbox.session("b2c", outcome.session_id)
    assert (row["status"], row["generated_image_url"]) == ("failed", None)
    assert sandbox.balance_changes(owner) == [10, -1, 1]


async def test_an_outcome_that_the_database_rejects_is_set_aside_and_delays_no_other(
    sandbox: Sandbox, redis: Redis, writer: Settlement
) -> None:
    outcome, other = _without_balance(sandbox), failure(sandbox)[0]
    await writer.defer(outcome)
    await writer.defer(other)
    assert await writer.settle_waiting() == 1
    assert sandbox.session("b2c", other.session_id)["status"] == "failed"
    (rejected,) = await Rejected(redis).list()
    assert rejected.session_id == str(outcome.session_id)
    assert "has no balance" in rejected.error
    assert not await redis.exists(keys.SETTLEMENTS)
    assert await writer.is_waiting(outcome.session_id)


async def test_a_rejected_outcome_is_written_once_its_reason_is_mended(
    sandbox: Sandbox, redis: Redis, writer: Settlement
) -> None:
    outcome = _without_balance(sandbox)
    await writer.settle(outcome)
    (rejected,) = await Rejected(redis).list()
    owner = sandbox.session("b2c", outcome.session_id)["user_id"]
    sandbox.database.execute("insert into user_credits (user_id, balance) values ($1, 9)", owner)
    assert await Rejected(redis).retry(rejected)
    assert await writer.settle_waiting() == 1
    assert sandbox.session("b2c", outcome.session_id)["status"] == "failed"
    assert sandbox.balance(str(owner)) == 10
    assert not await writer.is_waiting(outcome.session_id)


@pytest.mark.parametrize("entry", [b"", b"{", b"[]", b'{"kind": "postponed"}', b"\xff\xfe"])
async def test_an_entry_that_is_no_outcome_is_set_aside(
    sandbox: Sandbox, redis: Redis, writer: Settlement, entry: bytes
) -> None:
    outcome, _ = failure(sandbox)
    await redis.hset(keys.SETTLEMENTS, "made-by-hand", entry)  # redis-py knows only text
    await writer.defer(outcome)
    assert await writer.settle_waiting() == 1
    (rejected,) = await Rejected(redis).list()
    assert (rejected.session_id, rejected.error) == ("made-by-hand", "the entry is no outcome")
    assert await Rejected(redis).drop(rejected)
    assert await Rejected(redis).list() == []


def _without_balance(sandbox: Sandbox) -> Outcome:
    """The end of a session whose payer's balance row is gone."""
    outcome, owner = failure(sandbox)
    sandbox.database.execute("delete from user_credits where user_id = $1", owner)
    return outcome
