"""Marks: what a successor reads, and what it makes of a session that a vanished worker left."""

import json
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker.errors import InvalidMessage
from worker.generation import keys
from worker.generation.message import GenerationMessage
from worker.generation.pipeline.expiry import Expiry
from worker.generation.pipeline.starts import Starts
from worker.generation.run import Run, SessionTaken
from worker.generation.sessions.leases import Lease, Leases
from worker.generation.sessions.marks import MAX_STARTS, Mark, Receipt, Stage
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.settings import Settings


@pytest.mark.parametrize("stage", list(Stage))
def test_a_mark_is_read_as_it_was_written(stage: Stage) -> None:
    receipt = Receipt(input_tokens=5, output_tokens=7, cost_usd=Decimal("0.040000"), processing_time_ms=31_000)
    mark = Mark(stage, 2, "one:abc", receipt)
    assert Mark.read(str(mark).encode()) == mark


@pytest.mark.parametrize("kept", [b"one:abc", b"", b"\xff", b"resting 1 one:abc", b"started x one:abc"])
def test_a_mark_of_another_version_counts_as_a_call_in_flight(kept: bytes) -> None:
    assert Mark.read(kept).stage is Stage.CALLING


def test_a_receipt_that_cannot_be_read_costs_only_its_figures() -> None:
    mark = Mark.read(b'paid 1 one:abc {"input_tokens": "many"}')
    assert (mark.stage, mark.receipt) == (Stage.PAID, Receipt())


class Crashed:
    """A session whose workers vanish one after the other."""

    def __init__(self, sandbox: Sandbox, settings: Settings, redis: Redis, sessions: Sessions) -> None:
        self.queued = sandbox.producer.b2c(push=False)
        self._redis = redis
        self.leases = Leases(redis, "one", 30)
        unused: Any = SimpleNamespace()
        self.starts = Starts(sessions, self.leases, Settlement(redis, sessions), Expiry(unused, settings))

    async def next(self) -> Run:
        """The run of the next worker, after the lease of the one before has run out."""
        await self._redis.delete(keys.lease(self.queued.session_id))
        message = GenerationMessage(**self.queued.message)
        lease = await self.leases.acquire(message.session_id)
        assert lease
        return Run(message, lease)


@pytest.fixture
def crashed(sandbox: Sandbox, settings: Settings, redis: Redis, sessions: Sessions) -> Crashed:
    return Crashed(sandbox, settings, redis, sessions)


async def test_a_session_whose_worker_vanished_before_the_call_starts_again(crashed: Crashed) -> None:
    assert await crashed.starts.start(await crashed.next())
    assert await crashed.starts.start(await crashed.next())


@pytest.mark.parametrize("paid", [False, True])
async def test_a_session_whose_worker_vanished_in_the_call_or_later_never_starts_again(
    crashed: Crashed, paid: bool
) -> None:
    run = await crashed.next()
    assert await crashed.starts.start(run)
    assert await crashed.starts.note_call(run)
    if paid:
        await crashed.starts.note_paid(run, Receipt(input_tokens=5, prompt_version="worker-1"))
    for _ in range(MAX_STARTS + 1):
        run = await crashed.next()
        assert not await crashed.starts.start(run)
    assert run.lease.mark.receipt.input_tokens == (5 if paid else None)
    assert run.lease.mark.receipt.prompt_version == "worker-1"


async def test_a_session_starts_again_after_a_call_that_failed(crashed: Crashed) -> None:
    run = await crashed.next()
    assert await crashed.starts.start(run)
    assert await crashed.starts.note_call(run)
    await crashed.starts.note_unpaid(run)
    assert await crashed.starts.start(await crashed.next())


async def test_a_session_that_ended_three_workers_is_poison(crashed: Crashed) -> None:
    for _ in range(MAX_STARTS):
        assert await crashed.starts.start(await crashed.next())
    with pytest.raises(InvalidMessage, match="poison"):
        await crashed.starts.start(await crashed.next())


async def test_a_session_of_a_worker_without_a_mark_here_is_left_alone(crashed: Crashed, redis: Redis) -> None:
    assert await crashed.starts.start(await crashed.next())
    await redis.delete(keys.begun(crashed.queued.session_id))
    with pytest.raises(SessionTaken):
        await crashed.starts.start(await crashed.next())


async def test_a_worker_that_lost_its_lease_notes_nothing_and_makes_no_call(crashed: Crashed, redis: Redis) -> None:
    late = await crashed.next()
    await crashed.next()
    assert not await crashed.starts.note_call(late)
    kept: Any = await redis.get(keys.begun(crashed.queued.session_id))
    assert Mark.read(kept).stage is Stage.STARTED


async def test_a_worker_that_leaves_a_session_as_it_was_leaves_the_mark(crashed: Crashed) -> None:
    """It is let go of before its own start: the next worker has to know what the vanished one did."""
    run = await crashed.next()
    assert await crashed.starts.start(run)
    assert await crashed.starts.note_call(run)
    second = await crashed.next()
    assert await crashed.starts.requeue(second, "released")
    await crashed.leases.release(second.lease, keep_mark=second.keep_mark)
    assert not await crashed.starts.start(await crashed.next())


def test_the_mark_of_a_lease_tells_if_it_is_the_first() -> None:
    for mark, first in ((Mark(Stage.STARTED), True), (Mark(Stage.STARTED, 2), False), (Mark(Stage.PAID), False)):
        assert Lease(uuid4(), "one:abc", mark).first is first


def test_a_receipt_fits_one_line() -> None:
    assert "\n" not in str(Mark(Stage.PAID, receipt=Receipt(cost_usd=Decimal("0.1"))))
    assert json.loads(Receipt(cost_usd=Decimal("0.1")).model_dump_json(exclude_none=True)) == {"cost_usd": "0.1"}
