"""The regular purge: one at a time, continued after a kill, and its result in the metrics."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import astuple
from unittest.mock import AsyncMock, patch

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from tests.sandbox.sandbox import BUCKET
from worker.generation import keys
from worker.generation.data_life import lock
from worker.generation.data_life.lock import LockLost, PurgeUnderWay, exclusive
from worker.generation.data_life.purge import Purge, Report
from worker.generation.data_life.record import Place, Record
from worker.generation.data_life.schedule import DataLifeSchedule
from worker.generation.data_life.tools import Tools
from worker.generation.limiter import Limiter
from worker.generation.queue.claims import Claims
from worker.generation.queue_metrics import Shared
from worker.generation.spend.limits import Limits
from worker.generation.spend.view import SpendView
from worker.metrics import REGISTRY

HOUR = 3600.0
OLD = [(f"uploads/u{number}/a.jpg", 7 * HOUR, 10) for number in range(30)]


@pytest.fixture
def schedule(tools: Tools, redis: Redis) -> DataLifeSchedule:
    return DataLifeSchedule(tools.purge(), tools.record, redis, 6)


def value(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


async def checked(check: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(0.01)
        check()


async def gauges(redis: Redis) -> dict[str, float]:
    metrics = await Shared(redis, Claims(redis, "a", 30), Limiter(redis, 300), SpendView(redis, Limits({}))).read()
    return {sample.name: sample.value for metric in metrics for sample in metric.samples}


async def test_a_purge_deletes_counts_and_says_how_old_the_rest_is(
    sandbox: Sandbox, redis: Redis, schedule: DataLifeSchedule
) -> None:
    sandbox.gateway.plant(BUCKET, [*OLD, ("generated/u/b.jpg", 5 * HOUR, 10), ("stores/s/logo.png", 99 * HOUR, 10)])
    before = value("wearon_data_life_deleted_objects_total")
    await schedule.purge_if_due()
    assert sandbox.gateway.paths(BUCKET) == {"generated/u/b.jpg", "stores/s/logo.png"}
    assert value("wearon_data_life_deleted_objects_total") - before == 30
    shown = await gauges(redis)
    assert shown["wearon_data_life_oldest_age_seconds"] == pytest.approx(5 * HOUR, abs=30)
    assert shown["wearon_data_life_timestamp_seconds"] == pytest.approx(time.time(), abs=30)


async def test_the_next_purge_comes_ten_minutes_later(sandbox: Sandbox, schedule: DataLifeSchedule) -> None:
    await schedule.purge_if_due()
    sandbox.gateway.plant(BUCKET, OLD)
    await schedule.purge_if_due()
    assert len(sandbox.gateway.paths(BUCKET)) == 30
    with patch("worker.generation.data_life.schedule.time.time", return_value=time.time() + 601):
        await schedule.purge_if_due()
    assert sandbox.gateway.paths(BUCKET) == set()


async def test_no_purge_with_a_life_of_0_hours(sandbox: Sandbox, tools: Tools, redis: Redis) -> None:
    sandbox.gateway.plant(BUCKET, OLD)
    await DataLifeSchedule(tools.purge(), tools.record, redis, 0).purge_if_due()
    assert len(sandbox.gateway.paths(BUCKET)) == 30
    assert sandbox.redis.keys("wearon:data-life*") == []
    assert value("wearon_data_life_limit_seconds") == 0


async def test_the_age_grows_while_no_purge_reaches_its_end(
    sandbox: Sandbox, redis: Redis, schedule: DataLifeSchedule
) -> None:
    sandbox.gateway.fault("bucket_gone", on="storage/*")
    before = value("wearon_data_life_failures_total")
    await schedule.purge_if_due()
    await schedule.purge_if_due()
    assert value("wearon_data_life_failures_total") - before == 2
    assert (await gauges(redis))["wearon_data_life_oldest_age_seconds"] == pytest.approx(0, abs=30)
    with patch("worker.generation.data_life.record.time.time", return_value=time.time() + 7 * HOUR):
        assert (await gauges(redis))["wearon_data_life_oldest_age_seconds"] == pytest.approx(7 * HOUR, abs=30)
    sandbox.gateway.clear()
    await schedule.purge_if_due()
    assert (await Record(redis).result()).time > 0


async def test_one_purge_at_a_time_and_the_lock_ends_with_its_holder(redis: Redis, sandbox: Sandbox) -> None:
    async with exclusive(redis) as check:
        check()
        with pytest.raises(PurgeUnderWay):
            async with exclusive(redis):
                pass
        assert 0 < sandbox.redis.ttl(keys.DATA_LIFE_LOCK) <= 30
    assert not sandbox.redis.exists(keys.DATA_LIFE_LOCK)


async def test_a_lock_is_renewed_and_the_loser_deletes_nothing_more(
    sandbox: Sandbox, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_RENEW_SECONDS", 0.02)
    async with exclusive(redis) as check:
        sandbox.redis.expire(keys.DATA_LIFE_LOCK, 1)
        async with asyncio.timeout(5):
            while sandbox.redis.ttl(keys.DATA_LIFE_LOCK) < 10:
                await asyncio.sleep(0.01)
            sandbox.redis.set(keys.DATA_LIFE_LOCK, "another")
            with pytest.raises(LockLost):
                await checked(check)
    assert sandbox.redis.get(keys.DATA_LIFE_LOCK) == "another"


async def test_a_walk_goes_on_where_the_last_one_was_cut_off(sandbox: Sandbox, tools: Tools) -> None:
    sandbox.gateway.plant(BUCKET, [*OLD, ("uploads/aaa/kept.jpg", HOUR, 1), ("generated/u/b.jpg", 9 * HOUR, 10)])
    begun = time.time() - 60
    await tools.record.keep_place(Place("generated/", 0, begun, begun - 5 * HOUR))
    report = Report(dry_run=False)
    await tools.purge().run(report)
    assert (report.resumed, report.pictures.objects) == (True, 1)
    assert len(sandbox.gateway.paths(BUCKET)) == 31
    result = await tools.record.result()
    assert result
    assert astuple(result) == pytest.approx((time.time(), begun - 5 * HOUR), abs=30)
    report = Report(dry_run=False)
    await tools.purge().run(report)
    assert (report.resumed, report.pictures.objects) == (False, 30)


PLACE = {"root": "generated/", "offset": 0, "begun": 1, "time": time.time()}


@pytest.mark.parametrize("change", [{"root": "else/"}, {"offset": "x"}, {"begun": None}, {"time": 1}, {"more": 1}])
async def test_an_odd_or_old_place_is_no_place(redis: Redis, change: dict[str, object]) -> None:
    for odd in (json.dumps({**PLACE, **change}), "{", "[]"):
        await redis.set(keys.DATA_LIFE_PLACE, odd)
        assert await Record(redis).place() is None


async def test_a_crash_ends_no_container(schedule: DataLifeSchedule) -> None:
    with patch.object(Purge, "run", AsyncMock(side_effect=ValueError("odd"))):
        await schedule.purge_if_due()
