"""The limit for the whole OpenAI account, with a real Redis and real processes."""

import asyncio
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.sandbox import Sandbox
from tests.sandbox.proxy import Proxy
from worker.errors import ServiceUnavailable
from worker.generation import keys, openai_images
from worker.generation.limiter import Limiter
from worker.generation.limiter.slack import SHARED_SLACK_SECONDS
from worker.settings import Settings

CLIENT = Path(__file__).with_name("limiter_client.py")
SEEN = "test:calls-seen"


@pytest.fixture
async def redis(sandbox: Sandbox) -> AsyncIterator[Redis]:
    async with Redis.from_url(sandbox.redis_url, retry=Retry(NoBackoff(), 0)) as client:
        yield client


def client(sandbox: Sandbox, *, limit: int, window: float, slack: float, calls: int) -> subprocess.Popen[bytes]:
    """A process that wants `calls` calls at once."""
    arguments = [sandbox.redis_url, limit, window, slack, calls]
    return subprocess.Popen([sys.executable, str(CLIENT), *map(str, arguments)])


def seen(sandbox: Sandbox) -> list[float]:
    """When OpenAI would have seen each call, in seconds."""
    return sorted(int(moment) / 1e6 for moment in sandbox.redis.lrange(SEEN, 0, -1))


def most_within(moments: list[float], seconds: float) -> int:
    """The most moments in any half-open window of that length."""
    return max(bisect_left(moments, moment + seconds) - index for index, moment in enumerate(moments))


async def until_waiting(limiter: Limiter, calls: int) -> None:
    """Returns when that many wait for their turn."""
    async with asyncio.timeout(10):
        while (await limiter.usage()).waiting != calls:
            await asyncio.sleep(0.01)


def test_processes_together_fill_every_window_and_never_overfill_one(sandbox: Sandbox) -> None:
    processes = [client(sandbox, limit=60, window=3, slack=1.5, calls=70) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]

    moments = seen(sandbox)
    assert len(moments) == 210
    assert most_within(moments, 3) <= 60
    # 60 at once, then 60 per window: the last ones start after three windows, and long before a fourth one ends.
    assert moments[-1] - moments[0] < 3.5 * 4.5


async def test_calls_start_in_the_order_in_which_they_arrived(redis: Redis) -> None:
    instances = [Limiter(redis, 1, window_seconds=0.4, slack_seconds=(0.1, 0.1)) for _ in range(2)]
    started: list[int] = []

    async def call(number: int) -> None:
        await instances[number % 2].acquire()
        started.append(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(call(number))
            await asyncio.sleep(0.05)
    assert started == list(range(8))


async def test_acquire_returns_the_seconds_waited(redis: Redis) -> None:
    limiter = Limiter(redis, 1, window_seconds=0.9, slack_seconds=(0.1, 0.1))
    begun = time.monotonic()
    assert await limiter.acquire() < 0.5
    between = time.monotonic()
    waited = await limiter.acquire()
    assert 1 - (between - begun) - 0.1 < waited <= time.monotonic() - between


async def test_cancelled_calls_make_room_for_those_behind_them(redis: Redis) -> None:
    limiter = Limiter(redis, 2, window_seconds=3, slack_seconds=(0.1, 0.1))
    begun = time.monotonic()
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(12)]
    await until_waiting(limiter, 10)
    for task in tasks[2:10]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    # Ten waited for five windows; eight of them left, so the last two start after one.
    assert time.monotonic() - begun < 2 * 3.1
    assert await redis.zcard(keys.LIMITER) == 2
    assert await redis.zcount(keys.LIMITER, "-inf", "+inf") == 2


async def test_a_crowd_that_gave_up_leaves_nothing_behind(redis: Redis) -> None:
    limiter = Limiter(redis, 1, window_seconds=60)
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(50)]
    await tasks[0]
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await limiter.usage() == (1, 0)


async def test_a_deadline_ends_the_wait_and_gives_the_place_back(redis: Redis) -> None:
    limiter = Limiter(redis, 1, window_seconds=60)
    await limiter.acquire()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await limiter.acquire()
    assert await limiter.usage() == (1, 0)


async def test_the_places_of_a_killed_process_are_over_after_their_window(sandbox: Sandbox, redis: Redis) -> None:
    limiter = Limiter(redis, 5, window_seconds=1, slack_seconds=(0.1, 0.1))
    process = client(sandbox, limit=5, window=1, slack=0.1, calls=10)
    for _ in range(500):
        if await redis.zcard(keys.LIMITER) == 10:
            break
        await asyncio.sleep(0.02)
    process.kill()
    process.wait()
    assert await limiter.acquire() < 3.3


async def test_those_behind_a_late_riser_keep_their_distance(redis: Redis) -> None:
    limiter = Limiter(redis, 1, window_seconds=0.5, slack_seconds=(0.3, 0.3))
    started: list[float] = []

    async def call() -> None:
        await limiter.acquire()
        started.append(time.monotonic())

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(call())
        await asyncio.sleep(0.5)
        time.sleep(1)  # noqa: ASYNC251  # the whole process stands still when the second and nearly the third are due
    assert min(later - earlier for earlier, later in pairwise(started)) >= 0.5


async def test_those_behind_a_call_that_was_sent_late_keep_their_distance_from_then(redis: Redis) -> None:
    limiter = Limiter(redis, 1, window_seconds=2, slack_seconds=(0.06, 0.06))
    await limiter.acquire()
    behind = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0.6)
    sent = time.monotonic()
    await limiter.sent()
    await behind
    assert time.monotonic() - sent >= 2


async def test_a_call_that_was_sent_in_time_moves_nobody(redis: Redis) -> None:
    limiter = Limiter(redis, 5, window_seconds=60, slack_seconds=(1, 1))
    await limiter.sent()  # no turn of ours
    await limiter.acquire()
    before = await redis.zrange(keys.LIMITER, 0, -1, withscores=True)
    await limiter.sent()
    assert await redis.zrange(keys.LIMITER, 0, -1, withscores=True) == before


async def test_the_window_is_longer_while_calls_take_long_to_be_sent(redis: Redis) -> None:
    limiter = Limiter(redis, 1, window_seconds=1, slack_seconds=(0.03, 0.6))
    await limiter.acquire()
    await asyncio.sleep(0.15)
    sent = time.monotonic()
    await limiter.sent()
    await limiter.acquire()
    # Three times the delay (0.6 s at most), from when it was sent; without it 1.03 s.
    assert 1.4 < time.monotonic() - sent < 2.5


async def test_the_client_says_when_a_call_was_sent(sandbox: Sandbox, settings: Settings) -> None:
    sandbox.openai.set(latency=1.5)
    sent: list[float] = []

    async def on_sent() -> None:
        sent.append(time.monotonic())

    image = BytesIO()
    Image.new("RGB", (64, 96)).save(image, "JPEG")
    async with openai_images.client(settings, on_sent) as client:
        await client.images.edit(model="gpt-image-1.5", image=[("a.jpg", image.getvalue(), "image/jpeg")], prompt="x")
    (moment,) = sent
    assert time.monotonic() - moment > 0.5


async def test_a_clock_that_was_set_back_blocks_nobody(redis: Redis) -> None:
    limiter = Limiter(redis, 2, window_seconds=1)
    seconds, _ = await redis.time()
    await redis.zadd(keys.LIMITER, {f"old{number}": (seconds + 3600) * 1_000_000 for number in range(5)})
    assert await limiter.acquire() < 5


async def set_clock_back(redis: Redis, seconds: float) -> None:
    """All that is stored lies this much further in the future, as after a jump of Redis' clock."""
    entries: Any = await redis.zrange(keys.LIMITER, 0, -1, withscores=True)
    await redis.zadd(keys.LIMITER, {token: score + seconds * 1e6 for token, score in entries})


async def test_bulk_waits_a_window_at_most_when_the_clock_is_set_back(redis: Redis) -> None:
    """Nothing else asks for a place."""
    bulk = Limiter(redis, 5, window_seconds=1, slack_seconds=(0.1, 0.1))
    for _ in range(4):
        assert await bulk._ask_for_place(str(uuid4()), 4) == 0
    await set_clock_back(redis, 3600)
    assert 0 < await bulk._ask_for_place("late", 4) <= 1.3e6
    async with asyncio.timeout(3):
        await bulk.acquire(4)


@pytest.mark.parametrize("seconds", [0.5, 300, 100_000])
async def test_calls_wait_a_window_at_most_when_the_clock_is_set_back(redis: Redis, seconds: float) -> None:
    limiter = Limiter(redis, 3, window_seconds=2, slack_seconds=(0.1, 0.1))
    for _ in range(3):
        await limiter.acquire()
    waiting = asyncio.create_task(limiter.acquire())
    await until_waiting(limiter, 1)
    await set_clock_back(redis, seconds)
    begun = time.monotonic()
    async with asyncio.timeout(10):
        await limiter.acquire()
        await waiting
    # As if all three had started at the moment of the jump, and never more in a window.
    assert time.monotonic() - begun < 2 * 2.1


async def test_a_full_window_in_the_future_delays_a_call_by_one_window(redis: Redis) -> None:
    limiter = Limiter(redis, 300)
    seconds, _ = await redis.time()
    await redis.zadd(keys.LIMITER, {f"old{number}": (seconds + 300) * 1e6 - number * 1e5 for number in range(300)})
    assert await limiter._ask_for_place("new") <= 61e6


async def test_calls_of_long_ago_leave_nothing_in_redis(redis: Redis) -> None:
    await Limiter(redis, 1, window_seconds=0.05, slack_seconds=(0.01, 0.01)).acquire()
    await asyncio.sleep(1)
    assert await redis.keys("*") == []


async def test_usage_counts_calls_of_the_last_window_and_those_that_wait(redis: Redis) -> None:
    limiter = Limiter(redis, 3, window_seconds=30)
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(5)]
    await asyncio.gather(*tasks[:3])
    await until_waiting(limiter, 2)
    usage = await limiter.usage()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (usage.calls, usage.waiting) == (3, 2)


async def test_an_error_of_redis_is_service_unavailable_or_waited_out(redis: Redis) -> None:
    limiter = Limiter(redis, 3)
    await redis.set(keys.LIMITER, "not a sorted set")
    with pytest.raises(ServiceUnavailable, match="WRONGTYPE"):
        await limiter.usage()
    waiting = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0.5)
    assert not waiting.done()
    await redis.delete(keys.LIMITER)
    assert await waiting > 0.5


async def test_an_outage_of_redis_costs_no_place(sandbox: Sandbox, redis: Redis) -> None:
    """Waiting calls keep their places: they do not queue again behind themselves."""
    limiter = Limiter(redis, 2, window_seconds=2)
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(8)]
    await until_waiting(limiter, 6)
    before = set(sandbox.redis.zrange(keys.LIMITER, 0, -1))
    sandbox.valkey.stop()
    await asyncio.sleep(1)
    sandbox.valkey.start()
    await asyncio.sleep(1)
    assert set(sandbox.redis.zrange(keys.LIMITER, 0, -1)) <= before
    await asyncio.gather(*tasks)


async def test_regions_near_and_far_share_one_limit_and_never_exceed_it(sandbox: Sandbox, redis: Redis) -> None:
    started: list[float] = []

    async def call(limiter: Limiter) -> None:
        await limiter.acquire()
        started.append(time.monotonic())

    with Proxy(sandbox.valkey.port, round_trip_seconds=0.15) as proxy:
        async with Redis.from_url(f"redis://127.0.0.1:{proxy.port}/0") as distant, asyncio.TaskGroup() as tasks:
            for client in (redis, distant):
                limiter = Limiter(client, 20, window_seconds=3, slack_seconds=SHARED_SLACK_SECONDS, pause_redis=redis)
                for _ in range(30):
                    tasks.create_task(call(limiter))
    started.sort()
    assert most_within(started, 3) <= 20
    # Three windows, each longer by the slack and a round trip.
    assert started[-1] - started[0] < 2 * (3 + SHARED_SLACK_SECONDS[1] + 0.3) + 1


async def test_distant_processes_use_all_of_a_limit_of_3000_a_minute_and_never_exceed_it(
    sandbox: Sandbox, redis: Redis
) -> None:
    limit, window, round_trip = 150, 3.0, 0.15
    started: list[float] = []

    async def call(limiter: Limiter) -> None:
        await limiter.acquire()
        started.append(time.monotonic())

    with Proxy(sandbox.valkey.port, round_trip_seconds=round_trip) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with Redis.from_url(url) as one, Redis.from_url(url) as two, asyncio.TaskGroup() as tasks:
            for distant in (one, two):
                limiter = Limiter(distant, limit, window, SHARED_SLACK_SECONDS, pause_redis=redis)
                for _ in range(3 * limit // 2):
                    tasks.create_task(call(limiter))
    started.sort()
    assert len(started) == 3 * limit
    assert most_within(started, window) <= limit
    # The slack is part of each window. A call starts up to two round trips late: behind a question, and with its own.
    least = 2 * (window + SHARED_SLACK_SECONDS[0])
    assert started[-1] - started[0] <= least / 0.95 + 2 * 2 * round_trip


async def test_a_crowd_that_gave_up_leaves_nothing_in_a_distant_redis(sandbox: Sandbox) -> None:
    with Proxy(sandbox.valkey.port, round_trip_seconds=0.15) as proxy:
        async with Redis.from_url(f"redis://127.0.0.1:{proxy.port}/0") as distant:
            limiter = Limiter(distant, 1, window_seconds=60)
            await limiter.acquire()
            tasks = [asyncio.create_task(limiter.acquire()) for _ in range(20)]
            await asyncio.sleep(0.1)  # the first command is under way
            tasks += [asyncio.create_task(limiter.acquire()) for _ in range(20)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await limiter.usage() == (1, 0)


async def test_a_call_that_need_not_wait_costs_one_command(redis: Redis) -> None:
    limiter = Limiter(redis, 300)
    await limiter.acquire()
    before: Any = await redis.info("commandstats")
    for _ in range(10):
        await limiter.acquire()
    after: Any = await redis.info("commandstats")
    assert after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"] == 10


async def test_a_pause_of_this_region_holds_its_calls_whichever_redis_counts(sandbox: Sandbox, redis: Redis) -> None:
    seen: list[object] = []
    distant = Redis.from_url(sandbox.redis_url.removesuffix("/0") + "/1")
    await redis.set(keys.PAUSE, "ours")
    async with distant:
        await distant.set(keys.PAUSE, "theirs")
        await Limiter(distant, 1, check=seen.append, pause_redis=redis).acquire()
    assert seen == [b"ours"]
