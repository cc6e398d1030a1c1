"""The fate of a generation that is cancelled at an awkward moment; whole generations are in tests/integration."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker.generation.byte_budget import ByteBudget
from worker.generation.message import GenerationMessage
from worker.generation.pipeline.ends import End, Ends
from worker.generation.pipeline.expiry import Expiry
from worker.generation.pipeline.paid_call import PaidCall
from worker.generation.pipeline.pipeline import Pipeline
from worker.generation.pipeline.starts import Starts
from worker.generation.sessions.change import Change
from worker.generation.sessions.leases import Leases
from worker.generation.sessions.marks import Stage
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.settings import Settings


class SlowAnswers:
    """The database has started the session; the answer stays away."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self.requeue = sessions.requeue
        self.done = asyncio.Event()

    async def start(self, *arguments: Any) -> Change:
        change = await self._sessions.start(*arguments)
        self.done.set()
        await asyncio.sleep(60)
        return change


async def test_a_generation_that_is_preempted_while_it_reserves_its_cost_leaves_no_reservation() -> None:
    """Redis has made the reservation; the answer stays away."""
    made, left = asyncio.Event(), set[object]()

    class Spend:
        async def reserve(self, message: object, _: str) -> None:
            left.add(message)
            made.set()
            await asyncio.sleep(60)

        async def release(self, message: object) -> None:
            left.remove(message)

    run: Any = SimpleNamespace(message="message", stage=Stage.STARTED)
    editor: Any = SimpleNamespace(models=SimpleNamespace(in_use="model"))
    names = ("sessions", "starts", "expiry", "breaker", "probes", "prompts")
    unused: dict[str, Any] = dict.fromkeys(names)
    settings, spend = cast("Any", None), cast("Any", Spend())
    call = asyncio.create_task(PaidCall(settings, editor=editor, spend=spend, **unused).edit(run, []))
    await made.wait()
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    assert not left


async def test_a_start_that_is_let_go_of_before_its_answer_waits_in_the_queue_again(
    sandbox: Sandbox, settings: Settings, redis: Redis, sessions: Sessions
) -> None:
    queued = sandbox.producer.b2c(push=False)
    answers: Any = SlowAnswers(sessions)
    unused: Any = SimpleNamespace()
    leases, settlement = Leases(redis, "one", 30), Settlement(redis, sessions)
    starts = Starts(answers, leases, settlement, Expiry(unused, settings))
    pipeline = Pipeline(
        timeout_seconds=60,
        budget=ByteBudget(100_000_000),
        picture_max_bytes=10_000_000,
        leases=leases,
        starts=starts,
        steps=unused,
        settlement=settlement,
        breaker=unused,
        probes=unused,
        ends=Ends(starts=starts, breaker=unused, probes=unused, dead_letters=unused),
    )
    generation = asyncio.create_task(pipeline.generate(GenerationMessage(**queued.message), b"{}"))
    await answers.done.wait()
    assert sandbox.session("b2c", queued.session_id)["status"] == "processing"
    pipeline.release()
    assert await generation is End.REQUEUE
    assert sandbox.session("b2c", queued.session_id)["status"] == "queued"
    assert sandbox.balance_changes(queued.owner_id) == [10, -1]
