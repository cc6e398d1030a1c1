"""Messages that the consumer takes and requeues; whole containers are in tests/integration and tests/chaos."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker import memory
from worker.generation import bootstrap, keys
from worker.generation.bootstrap import QueueSide
from worker.generation.queue import departure
from worker.health import Health
from worker.settings import Settings
from worker.supervisor.parts import cancel


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
async def queue(settings: Settings, health: Health) -> AsyncIterator[QueueSide]:
    """The supervisor's objects, as a container wires them."""
    side = bootstrap.queue_side(settings, "one", health)
    yield side
    await side.connections.aclose()


async def test_no_message_is_taken_above_the_mark_of_memory_while_generations_run(
    sandbox: Sandbox, redis: Redis, queue: QueueSide, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = 1 << 60
    monkeypatch.setattr(memory, "used_bytes", lambda _: used)
    monkeypatch.setattr(memory, "_AGAIN_SECONDS", 0)
    sandbox.producer.b2c()
    health.beat("celery", active=1)
    running = asyncio.create_task(queue.consumer.run())
    await asyncio.sleep(1.5)
    assert await redis.llen(keys.QUEUE) == 1
    used = 1
    await reached(redis, claimed=1)
    used = 1 << 60
    sandbox.producer.b2c()
    health.beat("celery", active=0)
    await reached(redis, claimed=2)  # nothing would ever free the memory
    await cancel({running})


async def test_a_departure_can_wait_for_the_send_of_a_cancelled_consumer(
    sandbox: Sandbox, redis: Redis, queue: QueueSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that is sent after the departure of its instance would stay in Redis for good, with its addresses."""
    celery, sending = queue.consumer.forwarding.celery, threading.Event()

    def send_late(*arguments: Any, send: Any = celery.send_task, **options: Any) -> None:
        sending.set()
        time.sleep(1.5)  # in its thread
        send(*arguments, **options)

    monkeypatch.setattr(celery, "send_task", send_late)
    sandbox.producer.b2c()
    running = asyncio.create_task(queue.consumer.run())
    assert await asyncio.to_thread(sending.wait, 10)
    await cancel({running})
    await queue.consumer.forwarding.sent()
    await departure.leave(queue.claims, queue.ownership)
    await asyncio.sleep(2)
    assert await redis.keys("*") == [keys.QUEUE.encode()]


@pytest.mark.parametrize("count", [1, 12])
async def test_bulk_that_comes_in_a_pause_of_the_intake_is_known_as_bulk(
    sandbox: Sandbox, redis: Redis, queue: QueueSide, count: int
) -> None:
    """Otherwise the sweep ends its sessions after an hour, as those of shoppers."""
    await redis.set(keys.INTAKE_STOPPED, "maintenance")
    store = sandbox.producer.store()
    made = [sandbox.producer.b2b(store, priority="bulk").session_id for _ in range(count)]
    running = asyncio.create_task(queue.consumer.run())
    async with asyncio.timeout(10):
        while await queue.claims.lanes.bulk([UUID(it) for it in made]) != {UUID(it) for it in made}:
            await asyncio.sleep(0.05)
    assert await queue.claims.lanes.waiting() == count
    await cancel({running})


async def test_a_flood_that_is_sorted_for_minutes_does_not_let_the_consumer_look_hung(
    queue: QueueSide, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that looks hung is ended with its paid calls; 100 000 messages at a far Redis take minutes."""
    monkeypatch.setattr(queue.consumer, "slots", 0)

    async def sort() -> int:
        await asyncio.sleep(0.01)
        return 1

    monkeypatch.setattr(queue.claims.lanes, "sort", sort)
    running = asyncio.create_task(queue.consumer.run())
    async with asyncio.timeout(5):
        while "consumer" not in health.parts:
            await asyncio.sleep(0.05)
    await cancel({running})


async def test_the_drain_leaves_a_message_alone_whose_generation_is_just_ending(
    sandbox: Sandbox, redis: Redis, queue: QueueSide
) -> None:
    """Its lease goes before its claim; what waits in Celery has neither lease nor end."""
    ending, waiting = sandbox.producer.b2c(), sandbox.producer.b2c()
    assert [await queue.claims.take(1), await queue.claims.take(1)].count(None) == 0
    await redis.set(keys.lease(ending.session_id), "one:token")
    returner = asyncio.create_task(queue.consumer.unstarted.requeue())
    await asyncio.sleep(0.2)
    await redis.delete(keys.lease(ending.session_id))
    await returner
    assert [ending.session_id.encode() in payload for payload in await queue.claims.held()] == [True]
    assert [waiting.session_id in payload for payload in sandbox.redis.lrange(keys.QUEUE, 0, -1)] == [True]


async def test_an_odd_claimed_message_does_not_keep_the_others_from_being_forwarded(
    sandbox: Sandbox, redis: Redis, queue: QueueSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were claimed, and Celery has lost them."""
    sandbox.producer.push(b"odd")
    sandbox.producer.b2c()
    assert [await queue.claims.take(1), await queue.claims.take(1)].count(None) == 0

    async def fail(*_: object) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(queue.consumer.forwarding.refusal, "refuse", fail)
    await queue.consumer.reforward()
    await queue.consumer.reforward()
    assert await redis.llen(keys.celery_queue("one")) == 1


async def reached(redis: Redis, claimed: int) -> None:
    async with asyncio.timeout(10):
        while await redis.llen(keys.claimed("one")) != claimed:
            await asyncio.sleep(0.05)
