"""What the consumer takes, and what it gives back; whole containers are in tests/integration and tests/chaos."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker import memory
from worker.generation import bootstrap, keys
from worker.generation.bootstrap import QueueSide
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


async def reached(redis: Redis, claimed: int) -> None:
    async with asyncio.timeout(10):
        while await redis.llen(keys.claimed("one")) != claimed:
            await asyncio.sleep(0.05)
