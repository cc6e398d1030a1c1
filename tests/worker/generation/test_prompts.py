"""The experiment with prompt versions on a real Redis and a real database: what is paused, by whom, and for whom."""

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from postgrest import AsyncPostgrestClient
from prometheus_client.samples import Sample
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.sandbox import Sandbox
from worker.generation import keys
from worker.generation.message import GenerationMessage
from worker.generation.pipeline.steps import Steps
from worker.generation.prompts.choice import PromptChoice
from worker.generation.prompts.pauses import PromptPauses, State
from worker.generation.prompts.tally import tally
from worker.generation.prompts.view import PromptView
from worker.generation.prompts.watch import PromptWatch
from worker.generation.run import Run
from worker.generation.sessions.leases import Lease
from worker.generation.sessions.marks import Mark, Receipt, Stage
from worker.prompts.experiment import Experiment

A, B = "2026-12-a", "2026-12-b"
EXPERIMENT = Experiment({A: 90, B: 10})


def end(sandbox: Sandbox, version: str, *, completed: int = 0, blocked: int = 0, hours_ago: float = 0) -> None:
    """Ends of sessions, as their event notes them."""
    sandbox.database.execute(
        "insert into wearon.session_events (session_id, channel, kind, told_at, prompt_version, result, cost_usd, "
        "processing_time_ms) select gen_random_uuid(), 'b2c', 'ended', now() - $1 * interval '1 hour', $2, "
        "case when n <= $3 then 'completed' else 'moderation_blocked' end, 0.04, 20000 "
        "from generate_series(1, $4::int) n",
        *(hours_ago, version, completed, completed + blocked),
    )


@pytest.fixture
def planted(sandbox: Sandbox) -> None:
    """2 000 sessions, of which the version B has a bad prompt."""
    end(sandbox, A, completed=1764, blocked=36)
    end(sandbox, B, completed=140, blocked=60)


def _session(number: int) -> UUID:
    return UUID(int=number)


async def chosen(choice: PromptChoice, session: UUID, sandbox: Sandbox) -> str:
    queued = sandbox.producer.b2c(push=False).message
    message = GenerationMessage(**{**queued, "session_id": str(session)})
    run = Run(message, Lease(session, "token", Mark(Stage.STARTED)))
    assert await choice.choose(run)
    return str(run.facts["prompt_version"])


async def test_a_planted_bad_prompt_is_paused_for_all_instances_and_told(
    sandbox: Sandbox, redis: Redis, database: AsyncPostgrestClient, planted: None
) -> None:
    with capture_logs() as logs:
        for _ in range(2):
            await PromptWatch(EXPERIMENT, database, redis).look()
    (told,) = [line for line in logs if line["event"] == "prompt_paused"]
    assert (told["prompt_version"], told["blocked"], told["ended"]) == (B, 60, 200)
    assert (told["control"], told["control_blocked"], told["control_ended"]) == (A, 36, 1800)
    bad = next(it for it in map(_session, range(1000)) if EXPERIMENT.choose(it, None, "").version == B)
    for _ in ("one instance", "another, or the same after a restart"):
        assert await chosen(PromptChoice(EXPERIMENT, PromptPauses(redis)), bad, sandbox) == A
    shown = {sample.labels["version"]: sample.value for sample in await samples(redis, "wearon_prompt_paused")}
    assert shown == {A: 0, B: 1, "worker-1": 0, "as-sent": 0}


async def samples(redis: Redis, name: str, experiment: Experiment = EXPERIMENT) -> list[Sample]:
    (family,) = [found for found in await PromptView(experiment, redis).read() if found.name == name]
    return family.samples


async def test_the_metrics_show_the_results_with_their_limits(
    redis: Redis, database: AsyncPostgrestClient, planted: None
) -> None:
    assert {math.isnan(sample.value) for sample in await samples(redis, "wearon_prompt_estimate")} == {True}
    await PromptWatch(EXPERIMENT, database, redis).look()
    found = {tuple(it.labels.values()): it.value for it in await samples(redis, "wearon_prompt_estimate")}
    assert found[B, "moderation", "value"] == pytest.approx(0.3)
    assert found[B, "moderation", "low"] < 0.3 < found[B, "moderation", "high"]
    assert found[A, "cost_usd", "value"] == pytest.approx(0.04)
    assert found[A, "seconds", "low"] == pytest.approx(20)
    # An instance with another experiment shows its own versions only.
    others = await samples(redis, "wearon_prompt_estimate", Experiment({A: 1, "worker-1": 1}))
    assert {sample.labels["version"] for sample in others if not math.isnan(sample.value)} == {A}


async def test_a_resumed_version_is_judged_by_its_new_sessions(
    sandbox: Sandbox, redis: Redis, database: AsyncPostgrestClient, planted: None
) -> None:
    watch, pauses = PromptWatch(EXPERIMENT, database, redis), PromptPauses(redis)
    await watch.look()
    sandbox.database.execute("update wearon.session_events set told_at = told_at - interval '1 minute'")
    assert await pauses.set(B, (await pauses.states())[B], "resumed", paused=False)
    await watch.look()
    assert await pauses.paused() == frozenset()
    end(sandbox, A, completed=200)
    end(sandbox, B, completed=10, blocked=20)
    await watch.look()
    assert await pauses.paused() == {B}
    assert (await pauses.states())[B].reason == f"moderation blocked 20 of 30, of the control {A} 0 of 200"


async def test_sessions_of_more_than_a_day_ago_pause_nothing(
    sandbox: Sandbox, redis: Redis, database: AsyncPostgrestClient
) -> None:
    end(sandbox, A, completed=200, hours_ago=25)
    end(sandbox, B, blocked=200, hours_ago=25)
    await PromptWatch(EXPERIMENT, database, redis).look()
    assert await PromptPauses(redis).paused() == frozenset()


async def test_a_pause_that_meets_an_operators_hand_changes_nothing(redis: Redis) -> None:
    pauses = PromptPauses(redis)
    assert await pauses.set(B, State(), "by hand", paused=True)
    assert not await pauses.set(B, State(), "moderation", paused=True)
    assert (await pauses.states())[B].reason == "by hand"


async def test_a_full_redis_takes_the_pause(
    redis: Redis, database: AsyncPostgrestClient, planted: None, full: Callable[[], None]
) -> None:
    full()
    await PromptWatch(EXPERIMENT, database, redis).look_if_due()
    assert await PromptPauses(redis).paused() == {B}


async def test_one_instance_looks_for_all(redis: Redis, database: AsyncPostgrestClient, planted: None) -> None:
    await redis.set(keys.prompt_lock(EXPERIMENT.name), 1)
    await PromptWatch(EXPERIMENT, database, redis).look_if_due()
    assert await PromptPauses(redis).paused() == frozenset()


async def test_a_watch_without_redis_or_database_is_logged_once_and_goes_on(
    sandbox: Sandbox, redis: Redis, database: AsyncPostgrestClient, planted: None
) -> None:
    watch = PromptWatch(EXPERIMENT, database, redis)
    sandbox.gateway.fault("replaced", on="rpc/wearon_prompt_results", times=2, body={"versions": [{"version": B}]})
    with capture_logs() as logs:
        for _ in range(3):
            await redis.delete(keys.prompt_lock(EXPERIMENT.name))
            await watch.look_if_due()
    assert [line["event"] for line in logs] == ["prompt_watch_failed", "prompt_paused"]


async def test_an_odd_entry_pauses_nothing_and_can_be_replaced(redis: Redis) -> None:
    pauses = PromptPauses(redis)
    for kept in ("no json", "[]", '{"paused": true}', '{"paused": 1, "since": "x", "reason": 1}', b"\xff"):
        await redis.hset(keys.PROMPTS, B, kept)
        assert await pauses.paused() == frozenset()
    assert await pauses.set(B, (await pauses.states())[B], "by hand", paused=True)
    await redis.hset(keys.PROMPT_RESULTS, B, "[1]")
    assert {math.isnan(sample.value) for sample in await samples(redis, "wearon_prompt_estimate")} == {True}


async def test_the_last_known_pauses_count_while_redis_is_away(sandbox: Sandbox, redis: Redis) -> None:
    pauses = PromptPauses(redis)
    await pauses.set(B, State(), "by hand", paused=True)
    choice = PromptChoice(Experiment({B: 1, A: 0}), pauses)
    assert await chosen(choice, uuid4(), sandbox) == "worker-1"
    await redis.aclose()
    redis.connection_pool.connection_kwargs["port"] = 1
    watching = asyncio.create_task(choice.watch_forever())
    assert await chosen(choice, uuid4(), sandbox) == "worker-1"
    watching.cancel()


async def test_results_are_of_one_store_or_of_all(sandbox: Sandbox, database: AsyncPostgrestClient) -> None:
    store = uuid4()
    end(sandbox, A, completed=5)
    sandbox.database.execute("update wearon.session_events set store_id = $1", store)
    end(sandbox, A, completed=2, blocked=1)
    since = datetime.now(UTC) - timedelta(hours=1)
    assert (await tally(database, since))[A].ended == 8
    assert (await tally(database, since, store))[A].ended == 5
    assert await tally(database, since, uuid4()) == {}


async def test_a_choice_costs_less_than_a_millisecond(sandbox: Sandbox, redis: Redis) -> None:
    choice = PromptChoice(EXPERIMENT, PromptPauses(redis))
    message = GenerationMessage(**{**sandbox.producer.b2c(push=False).message, "prompt": "\u00e9 " * 16_000})
    run = Run(message, Lease(message.session_id, "token", Mark(Stage.STARTED)))
    await choice.choose(run)
    spent = []
    for _ in range(50):
        began_at = time.perf_counter()
        await choice.choose(run)
        spent.append(time.perf_counter() - began_at)
    assert min(spent) < 0.001


async def test_instances_with_different_settings_watch_their_own_experiment(
    redis: Redis, database: AsyncPostgrestClient, planted: None
) -> None:
    other = Experiment({A: 1, "worker-1": 1})
    for experiment in (other, EXPERIMENT):
        await PromptWatch(experiment, database, redis).look_if_due()
    assert await PromptPauses(redis).paused() == {B}
    found = {sample.labels["version"]: sample.value for sample in await samples(redis, "wearon_prompt_sessions", other)}
    assert found == {A: 1800, B: 0, "worker-1": 0, "as-sent": 0}


@pytest.mark.parametrize("version", [B, "of-another-package"])
async def test_a_rescued_picture_counts_for_the_prompt_that_made_it(sandbox: Sandbox, version: str) -> None:
    message = GenerationMessage(**sandbox.producer.b2c(push=False).message)
    mark = Mark(Stage.PAID, receipt=Receipt(model="a model", prompt_version=version))
    run, unused = Run(message, Lease(message.session_id, "token", mark)), cast("Any", None)

    async def find(_: Run) -> str:
        return "https://x/a.jpg"

    delivery = cast("Any", SimpleNamespace(find=find))
    steps = Steps(fetcher=unused, paid_call=unused, starts=unused, delivery=delivery, concurrency=1, threads=unused)
    assert (await steps.rescue(run)).facts["prompt_version"] == version


async def test_a_text_that_may_be_a_new_default_of_the_app_is_told_once(sandbox: Sandbox, redis: Redis) -> None:
    choice = PromptChoice(EXPERIMENT, PromptPauses(redis))
    begins = "virtual TRY-ON: Using\nthe provided images:"
    with capture_logs() as logs:
        for sent in (f"{begins} one", "My own", f"{begins} two"):
            message = GenerationMessage(**sandbox.producer.b2c(prompt=sent, push=False).message)
            await choice.choose(Run(message, Lease(message.session_id, "token", Mark(Stage.STARTED))))
    assert [line["event"] for line in logs] == ["prompt_default_unknown"]
    assert "provided" not in str(logs)
