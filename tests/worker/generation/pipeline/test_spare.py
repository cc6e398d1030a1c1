"""Calls for bulk: a share of the account's, and none that another call waits for."""

import asyncio

import pytest
from redis.asyncio import Redis

from worker.errors import Preempted
from worker.generation.limiter import Limiter
from worker.generation.pipeline.spare import BULK, SpareCalls
from worker.settings import Settings

WINDOW_SECONDS = 2.0


@pytest.fixture
def limiter(redis: Redis) -> Limiter:
    return Limiter(redis, 10, WINDOW_SECONDS)


@pytest.fixture
def spare(limiter: Limiter, settings: Settings) -> SpareCalls:
    words = {"openai_requests_per_minute": 10, "bulk_share": 0.6, "generation_timeout_seconds": 9}
    return SpareCalls(limiter, settings.model_copy(update=words))


async def bulk(spare: SpareCalls) -> float:
    BULK.set(True)
    return await spare.acquire()


async def test_bulk_has_its_share_of_the_calls_and_others_have_the_rest_at_once(spare: SpareCalls) -> None:
    crowd = [asyncio.create_task(bulk(spare)) for _ in range(7)]
    await asyncio.wait(crowd[:6])
    others = await asyncio.gather(*(spare.acquire() for _ in range(4)))
    assert not crowd[6].done()
    assert max(others) < WINDOW_SECONDS / 2
    waits = await asyncio.gather(*crowd)
    assert max(waits[:6]) < WINDOW_SECONDS <= waits[6] + 0.1


async def test_bulk_leaves_no_place_behind_when_others_need_all_calls(limiter: Limiter, spare: SpareCalls) -> None:
    others = [asyncio.create_task(limiter.acquire()) for _ in range(40)]
    await asyncio.wait(others[:10])
    waits_for_call, waits_to_start = asyncio.create_task(bulk(spare)), asyncio.create_task(spare.wait())
    with pytest.raises(Preempted, match="no call for bulk within 3 s"):
        await waits_for_call
    assert not waits_to_start.done()
    assert (await limiter.usage()).waiting == sum(not it.done() for it in others)
    for task in (*others, waits_to_start):
        task.cancel()
