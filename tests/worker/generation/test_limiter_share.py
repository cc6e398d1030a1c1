"""Regions whose one limiter is away: each goes on with its share, and the account's limit holds in every window."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import structlog

from tests.sandbox import Sandbox
from tests.sandbox.proxy import Proxy
from tests.sandbox.valkey import Valkey
from worker import clients
from worker.generation import keys, odd
from worker.generation.limiter import Limiter
from worker.generation.limiter.share import LocalShare, release_share
from worker.generation.region import identity
from worker.settings import Settings

LIMIT, WINDOW, SLACK = 30, 2.0, 0.3
#: Calls that want to start at any moment, in each region.
CROWD = 15


@pytest.fixture
def far(sandbox: Sandbox) -> Iterator[Valkey]:
    """The Redis that counts for all regions."""
    valkey = Valkey(Path(mkdtemp(dir=sandbox.folder)))
    valkey.start()
    yield valkey
    valkey.resume()
    valkey.kill()


class Region:
    """A process of a region: its own Redis is a database of the sandbox's, its limiter is behind a proxy."""

    def __init__(self, settings: Settings, far: Valkey, number: int, share: int, limit: int = LIMIT) -> None:
        self.proxy = Proxy(far.port).start()
        self.own = clients.redis_client(settings, settings.redis_url.removesuffix("/0") + f"/{number}")
        self.limiter_redis = clients.redis_client(settings, f"redis://127.0.0.1:{self.proxy.port}/0")
        for client in (self.own, self.limiter_redis):
            client.on_wrong_type = odd.set_aside_wrong_keys
        self.limiter = Limiter(
            self.limiter_redis, limit, WINDOW, (SLACK, SLACK), pause_redis=self.own, local_share=share
        )
        self.calls: list[float] = []
        self.alone: list[float] = []

    @property
    def share(self) -> LocalShare:
        assert self.limiter.share
        return self.limiter.share

    async def press(self) -> None:
        """Make calls one after another."""
        while True:
            await self.limiter.acquire()
            self.calls.append(time.monotonic())
            if self.share.alone:
                self.alone.append(self.calls[-1])

    async def close(self) -> None:
        await self.own.aclose()
        await self.limiter_redis.aclose()
        self.proxy.stop()


@pytest.fixture
async def make(settings: Settings, far: Valkey) -> AsyncIterator[Callable[..., Region]]:
    """A function that makes a region, with the number of its Redis and its share."""
    made: list[Region] = []

    def make(number: int, share: int, **options: Any) -> Region:
        made.append(Region(settings, far, number, share, **options))
        return made[-1]

    yield make
    for region in made:
        await region.close()


@asynccontextmanager
async def running(*regions: Region, crowd: int = CROWD) -> AsyncIterator[None]:
    """Regions that report, each with a crowd of calls."""
    tasks = [asyncio.ensure_future(region.share.report_forever()) for region in regions]
    for region in regions:
        async with asyncio.timeout(30):
            while not await region.own.exists(keys.LIMITER_CONTACT):
                await asyncio.sleep(0.02)
    tasks += [asyncio.ensure_future(region.press()) for region in regions for _ in range(crowd)]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancel tasks until they have ended: `asyncio.wait_for` of Python 3.11, in redis-py, loses a cancellation."""
    open_tasks = set(tasks)
    async with asyncio.timeout(30):
        while open_tasks:
            for task in open_tasks:
                task.cancel()
            _, open_tasks = await asyncio.wait(open_tasks, timeout=1)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def most_within(moments: list[float], seconds: float) -> int:
    """The most moments in any half-open window of that length."""
    moments = sorted(moments)
    return max(bisect_left(moments, moment + seconds) - index for index, moment in enumerate(moments))


async def made(regions: tuple[Region, ...], calls: int) -> None:
    """Return once each region has made so many calls more."""
    goals = [(region, len(region.calls) + calls) for region in regions]
    await until(lambda: all(len(region.calls) >= goal for region, goal in goals))


async def noted(region: Region) -> bytes:
    """The region's last contact with the limiter, as its own Redis keeps it."""
    kept: Any = await region.own.get(keys.LIMITER_CONTACT)
    assert isinstance(kept, bytes)
    return kept


@pytest.mark.parametrize("fate", ["killed", "frozen"])
async def test_all_regions_go_on_with_their_shares_while_the_limiter_is_away(
    far: Valkey, make: Callable[..., Region], fate: str
) -> None:
    both = make(1, share=6), make(2, share=9)
    async with running(*both):
        await made(both, LIMIT)
        far.kill() if fate == "killed" else far.pause()
        await until(lambda: all(region.share.alone for region in both))
        assert await both[0].limiter._ask_for_place("bulk has no part in it", most=5) > 0
        await made(both, 12)
        far.start() if fate == "killed" else far.resume()
        await until(lambda: not any(region.share.alone for region in both))
        await made(both, LIMIT)
    for region, share in zip(both, (6, 9), strict=True):
        assert most_within(region.alone, WINDOW) <= share
    assert most_within(both[0].calls + both[1].calls, WINDOW) <= LIMIT


async def test_the_others_leave_the_share_of_a_region_free_that_alone_cannot_reach_the_limiter(
    make: Callable[..., Region],
) -> None:
    both = eu, us = make(1, share=6), make(2, share=9)
    async with running(*both):
        await made(both, LIMIT)
        us.proxy.stall()
        await until(lambda: us.share.alone)
        before = len(eu.calls)
        await made((us,), 12)
        await made((eu,), 1)
        beside = eu.calls[before:]
        us.proxy.start()
        await until(lambda: not us.share.alone)
        await made(both, LIMIT)
    assert most_within(us.alone, WINDOW) <= 9
    assert not eu.alone
    assert most_within(beside, WINDOW) <= LIMIT - 9
    assert most_within(eu.calls + us.calls, WINDOW) <= LIMIT


async def test_a_limiter_that_has_lost_its_data_grants_nothing_for_a_window(
    far: Valkey, settings: Settings, make: Callable[..., Region]
) -> None:
    eu = make(1, share=6)
    async with running(eu), clients.redis_client(settings, far.url) as direct:
        await made((eu,), LIMIT)
        await direct.flushall()
        await made((eu,), LIMIT)
    assert most_within(eu.calls, WINDOW) <= LIMIT


async def test_a_region_counts_alone_only_when_none_of_its_processes_reaches_the_limiter(
    make: Callable[..., Region],
) -> None:
    one, cut_off = make(1, share=6), make(1, share=6)
    async with running(one, cut_off, crowd=0):
        cut_off.proxy.refuse()
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(2 * (WINDOW + SLACK + cut_off.share.silent_seconds))
            assert not cut_off.share.alone
            one.proxy.refuse()
            await until(lambda: one.share.alone and cut_off.share.alone)
            one.proxy.start()
            await until(lambda: not one.share.alone and not cut_off.share.alone)
    events = [entry["event"] for entry in logs if entry["event"].startswith("limiter_")]
    assert sorted(events) == ["limiter_share_begun"] * 2 + ["limiter_share_ended"] * 2


async def test_shares_never_add_up_to_the_limit(far: Valkey, settings: Settings, make: Callable[..., Region]) -> None:
    first, second, third = regions = make(1, share=20), make(2, share=20), make(3, share=20)
    with structlog.testing.capture_logs() as logs:
        for region in regions:
            await region.share.report()
    assert [entry["share"] for entry in logs if entry["event"] == "limiter_share_reduced"] == [9, 0]
    async with clients.redis_client(settings, far.url) as direct:
        await release_share(direct, await identity(first.own))
    for region, share in ((second, 20), (third, 9)):
        await region.share.report()
        assert (await noted(region)).endswith(f":{share}".encode())


async def test_a_region_with_a_lower_limit_waits_while_the_others_shares_take_it(make: Callable[..., Region]) -> None:
    gone, small = make(1, share=25), make(2, share=1, limit=20)
    await gone.share.report()
    await small.share.report()
    await asyncio.sleep(gone.share.silent_seconds)
    with suppress(TimeoutError):
        async with asyncio.timeout(WINDOW):
            await small.limiter.acquire()
            pytest.fail("a call began")
    for _ in range(2):  # the limiter believes what the region has noted, one report later
        await gone.share.report()
    assert await small.limiter.acquire() < 30


@pytest.mark.parametrize("name", [keys.LIMITER_SHARES, keys.LIMITER, keys.LIMITER_ALONE, keys.LIMITER_CONTACT])
async def test_a_key_of_another_type_is_set_aside(make: Callable[..., Region], name: str) -> None:
    region = make(1, share=6)
    for redis in (region.own, region.limiter_redis):
        write: Any = redis.set(name, "x") if name != keys.LIMITER_CONTACT else redis.lpush(name, "x")
        await write
    for _ in range(3):  # one for each key that is in the way
        await region.share.report()
    assert (await noted(region)).endswith(b":6")
    assert await region.limiter.acquire() < 30


async def test_a_full_redis_takes_reports(
    make: Callable[..., Region], full: Callable[[], None], far: Valkey, settings: Settings
) -> None:
    region = make(1, share=6)
    async with clients.redis_client(settings, far.url) as direct:
        full()
        await direct.config_set("maxmemory", 1)
        await region.share.report()
        assert await region.own.exists(keys.LIMITER_CONTACT)
        assert await direct.exists(keys.LIMITER_SHARES)
