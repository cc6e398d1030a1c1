"""Odd rows, entries and messages: each is set aside, the next good one is served, and nothing odd is left in the way.

Values come from Hypothesis; Valkey, PostgreSQL and the worker's own loops are real. Only Celery's queue is cut off.
"""

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued
from worker.errors import EditFailed
from worker.generation import keys, queue_metrics
from worker.generation.bootstrap import QueueSide, queue_side
from worker.generation.celery.link import Beat, Ended, Link, decode, encode
from worker.generation.channel import Channel, SessionRef
from worker.generation.odd import set_aside_wrong_keys
from worker.generation.outcome import Outcome
from worker.generation.queue.claims import Claims
from worker.generation.sessions.leases import Leases
from worker.health import Health
from worker.settings import Settings

quick = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
#: What may lie in Redis: bytes, text with lone surrogates as JSON can carry them, JSON of any form.
entries = st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode())


class Pool:
    """Celery's queue: notes what it is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send_task(self, _: str, arguments: list[str], **__: Any) -> None:
        self.sent.append(json.loads(arguments[0])["session_id"])


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
async def side(settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(queue_metrics, "_PATIENCE_SECONDS", 30)
    quick_settings = settings.model_copy(update={"orphan_grace_seconds": 0.0})
    side = queue_side(quick_settings, "here", Health())
    side.consumer.forwarding.celery = pool
    await side.heartbeat.join()
    yield side
    await side.connections.aclose()


def spoiled(message: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A good message with odd values in some fields, or an entry that is no message at all."""
    odd = st.dictionaries(st.sampled_from(sorted(message)), json_values | st.just("req_\ud800"), min_size=1, max_size=3)
    return entries | odd.map(lambda changes: json.dumps({**message, **changes}).encode())


@quick
@given(data=st.data())
async def test_after_an_odd_message_the_next_good_one_is_served(
    sandbox: Sandbox, redis: Redis, side: QueueSide, pool: Pool, data: st.DataObject
) -> None:
    good, other = sandbox.producer.b2c(push=False), sandbox.producer.b2c(push=False)
    await redis.lpush(keys.QUEUE, data.draw(spoiled(other.message)))
    await redis.lpush(keys.QUEUE, json.dumps(good.message))
    for _ in range(2):
        await side.consumer._take_one()
    assert pool.sent[-1] == good.session_id
    assert await redis.llen(keys.QUEUE) == 0
    claimed = await Claims(redis, "here", 30).held()
    # What was refused is no claim any more; what happened to be good, is one.
    assert len(claimed) == len(set(pool.sent) & {good.session_id, other.session_id})
    for payload in claimed:
        await Claims(redis, "here", 30).finish(payload)


@quick
@given(kept=entries, name=st.uuids().map(str) | st.text(max_size=10) | st.binary(max_size=10))
async def test_an_odd_outcome_is_set_aside_and_the_others_are_written(
    sandbox: Sandbox, redis: Redis, side: QueueSide, kept: bytes, name: str | bytes
) -> None:
    queued = sandbox.producer.b2c(push=False)
    raw = name.encode(errors="surrogatepass") if isinstance(name, str) else name
    await redis.hset(keys.SETTLEMENTS, raw, kept)
    await side.settlement.defer(Outcome.failed(_session(queued), EditFailed("odd")))
    await side.settlement.settle_waiting()
    assert sandbox.session("b2c", queued.session_id)["status"] == "failed"
    assert sandbox.balance_changes(queued.owner_id) == [10, -1, 1]
    assert await redis.hlen(keys.SETTLEMENTS) == 0
    assert await redis.hlen(keys.REJECTED) >= 1


@quick
@given(payload=entries, name=st.text(max_size=12) | st.binary(min_size=1, max_size=8))
async def test_the_sweep_goes_on_beyond_odd_instances_and_claims(
    sandbox: Sandbox, redis: Redis, side: QueueSide, payload: bytes, name: str | bytes
) -> None:
    good = sandbox.producer.b2c(push=False)
    raw = name.encode(errors="surrogatepass") if isinstance(name, str) else name
    await redis.sadd(keys.INSTANCES, raw, "gone")
    await redis.lpush(keys.claimed("gone"), payload, json.dumps(good.message))
    side.heartbeat._lost_at = float("-inf")
    await side.sweeps.sweep()
    assert await redis.lpos(keys.QUEUE, json.dumps(good.message)) is not None
    assert await redis.smembers(keys.INSTANCES) == {b"here"}
    await redis.delete(keys.QUEUE)


@quick
@given(created_at=st.sampled_from(["infinity", "-infinity", "0044-03-15 BC", "294000-01-01", None]))
async def test_the_sweep_ends_stuck_sessions_beside_rows_with_odd_moments(
    sandbox: Sandbox, side: QueueSide, created_at: str | None
) -> None:
    odd, stuck = sandbox.producer.b2c(push=False), sandbox.producer.b2c(push=False)
    sandbox.database.execute("alter table generation_sessions alter column created_at drop not null")
    value = "null" if created_at is None else f"'{created_at}'"
    sandbox.database.execute(f"update generation_sessions set created_at = {value} where id = $1", odd.session_id)
    sandbox.database.execute(
        "update generation_sessions set created_at = now() - interval '2 hours' where id = $1", stuck.session_id
    )
    side.heartbeat._lost_at = float("-inf")
    await side.sweeps.sweep()
    assert sandbox.session("b2c", stuck.session_id)["status"] == "failed"
    sandbox.database.execute("delete from generation_sessions where id = $1", odd.session_id)


@quick
@given(
    name=st.sampled_from([keys.PAUSE, keys.INTAKE_STOPPED_SINCE, keys.AUDIT, keys.DEAD_DROPPED, keys.DEAD_BYTES]),
    value=entries,
)
async def test_an_odd_value_neither_stops_the_intake_nor_hides_the_metrics(
    sandbox: Sandbox, redis: Redis, side: QueueSide, pool: Pool, name: str, value: bytes
) -> None:
    await redis.flushall()
    side.consumer._room = 0
    await redis.set(name, value)
    await redis.lpush(keys.PAUSES, value)
    good = sandbox.producer.b2c()
    await side.consumer._look()
    await side.consumer._take_one()
    assert pool.sent[-1:] == [good.session_id]
    assert await side.metrics.read()


@pytest.mark.parametrize("name", [keys.QUEUE, keys.SETTLEMENTS, keys.INSTANCES, keys.claimed("here")])
async def test_a_key_of_another_type_is_renamed_and_its_place_is_free(
    sandbox: Sandbox, redis: Redis, side: QueueSide, name: str
) -> None:
    await redis.delete(name)
    await redis.zadd(name, {"odd": 1})
    for _ in range(3):
        for step in (side.consumer._take_one, side.sweeps.sweep, side.settlement.settle_waiting, side.metrics.read):
            try:
                side.consumer._state, side.consumer._room = None, 0
                await step()
            except Exception:
                side.heartbeat._lost_at = float("-inf")
        sandbox.producer.b2c()
    assert await redis.type(name) in (b"none", keys.type_of(name).encode())
    assert await redis.type(f"{name}:odd") == b"zset"


@quick
@given(kept=entries, stage=st.sampled_from([keys.lease, keys.begun]), number=st.integers(0, 2))
async def test_odd_marks_of_a_session_leave_its_lease_to_the_worker_that_takes_it(
    redis: Redis, kept: bytes, stage: Any, number: int
) -> None:
    leases = Leases(redis, "here", 30)
    session = uuid4()
    name = stage(session)
    if number == 0:
        await redis.rpush(name, kept)
    elif stage is keys.begun:
        await redis.set(name, kept)
    lease = await leases.acquire(session)
    assert lease
    assert await leases.keep(lease)
    await leases.release(lease)
    assert not await redis.exists(keys.lease(session), keys.begun(session))


@quick
@given(lines=st.lists(st.binary(max_size=50).filter(lambda line: b"\n" not in line and line), max_size=3))
async def test_an_odd_line_between_the_processes_is_skipped(lines: list[bytes]) -> None:
    import asyncio

    reader = asyncio.StreamReader()
    unused: Any = None
    for line in lines:
        reader.feed_data(line + b"\n")
    reader.feed_data(encode(Ended()))
    reader.feed_eof()
    assert [event async for event in Link(reader, unused).events()][-1] == Ended()
    assert decode(encode(Beat(1, 0.5))) == Beat(1, 0.5)


async def test_keys_of_others_are_left_alone(redis: Redis) -> None:
    await redis.set("somebody:else", 1)
    await set_aside_wrong_keys(redis, ["somebody:else", "wearon:tasks:generation"])
    assert await redis.get("somebody:else") == b"1"


def _session(queued: Queued) -> SessionRef:
    return SessionRef(Channel.B2C, queued.message["session_id"])
