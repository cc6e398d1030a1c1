"""The automatic pause: its one probe over all instances, its end, and the time that does not count for messages."""

import asyncio
import json

import pytest
from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.pauses import pauses
from worker.generation.pauses.pauses import OPENAI, QUOTA, STORAGE, Pauses, Times


async def pause(redis: Redis) -> pauses.Pause:
    _, found = await Pauses(redis).now()
    assert found is not None
    return found


async def test_nothing_probes_before_the_time_is_over(redis: Redis) -> None:
    box = Pauses(redis)
    await box.begin(QUOTA, 60, "one")
    assert not await box.take_probe("a")
    assert await box.probe_now()
    assert await box.take_probe("a")


async def test_of_many_instances_exactly_one_takes_the_probe(redis: Redis) -> None:
    box = Pauses(redis)
    await box.begin(QUOTA, 0, "one")
    assert sum(await asyncio.gather(*(box.take_probe(f"instance-{number}") for number in range(20)))) == 1


async def test_the_holder_may_go_on_looking_for_a_message(redis: Redis) -> None:
    box = Pauses(redis)
    await box.begin(QUOTA, 0, "one")
    assert await box.take_probe("a")
    assert await box.take_probe("a")


async def test_an_instance_whose_message_probes_takes_no_second_one(redis: Redis) -> None:
    box = Pauses(redis)
    await box.begin(QUOTA, 0, "one")
    await box.take_probe("a")
    assert await box.give_probe("a", "two")
    assert not await box.take_probe("a")
    assert not await box.give_probe("b", "three")


async def test_a_probe_that_died_makes_room_for_the_next(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "PROBE_SECONDS", 0.05)
    box = Pauses(redis)
    await box.begin(QUOTA, 0, "one")
    await box.take_probe("a")
    await box.give_probe("a", "two")
    assert not await box.take_probe("b")
    await asyncio.sleep(0.06)
    assert await box.take_probe("b")
    assert not await box.renew_probe("two")


async def test_a_probe_that_proved_nothing_leaves_the_pause_to_the_next_at_once(redis: Redis) -> None:
    box = Pauses(redis)
    await box.begin(QUOTA, 0, "one")
    await box.take_probe("a")
    await box.give_probe("a", "two")
    assert await box.leave_probe("two")
    assert await box.take_probe("b")


async def test_only_the_probe_prolongs_a_pause_and_the_beginning_stays(redis: Redis) -> None:
    box = Pauses(redis)
    assert await box.begin(QUOTA, 0, "one")
    before = await pause(redis)
    assert not await box.begin(STORAGE, 60, "late")
    assert await pause(redis) == before
    await box.take_probe("a")
    await box.give_probe("a", "two")
    assert await box.begin(STORAGE, 60, "two")
    after = await pause(redis)
    assert (after.reason, after.since, after.probe) == (STORAGE, before.since, "")
    assert after.probe_at > after.since + 59


async def test_a_session_that_is_no_probe_does_not_end_the_pause(redis: Redis) -> None:
    box = Pauses(redis)
    await box.begin(QUOTA, 0, "one")
    await box.take_probe("a")
    await box.give_probe("a", "two")
    assert not await box.end(session="one", reason=QUOTA)
    assert not await box.end(session="two", reason=OPENAI)
    assert await box.end(session="two", reason=QUOTA)
    assert (await box.now())[1] is None


async def test_pauses_of_both_kinds_are_remembered_and_go_on(redis: Redis) -> None:
    box = Pauses(redis)
    begun = (await box.times()).now
    await box.stop("maintenance")
    await box.begin(QUOTA, 0, "one")
    await asyncio.sleep(0.05)
    first = await box.times()
    assert 0.05 <= first.paused_since(begun) <= first.now - begun
    await box.resume()
    await box.end()
    await asyncio.sleep(0.05)
    second = await box.times()
    assert second.paused_since(begun) <= second.now - begun - 0.045
    assert second.stopped_since is None
    assert len(second.paused) == 2


async def set_clock_back(redis: Redis, seconds: int) -> None:
    """All moments of the pause lie this much further in the future, as after a jump of Redis' clock."""
    kept = json.loads(await redis.get(keys.PAUSE) or b"")
    for name in ("since", "probe_at", "probe_until"):
        kept[name] += seconds * 1000
    await redis.set(keys.PAUSE, json.dumps(kept))


@pytest.mark.parametrize("seconds", [60, 300, 100_000])
async def test_a_clock_that_is_set_back_does_not_prolong_the_wait_for_a_probe(redis: Redis, seconds: int) -> None:
    box = Pauses(redis)
    await box.begin(QUOTA, 15, "one")
    await set_clock_back(redis, seconds)
    assert await box.take_probe("a")
    assert (await pause(redis)).since <= (await box.times()).now


async def test_a_probe_that_died_before_the_clock_was_set_back_makes_room(redis: Redis) -> None:
    box = Pauses(redis)
    await box.begin(QUOTA, 0, "one")
    await box.take_probe("a")
    await set_clock_back(redis, 300)
    assert await box.take_probe("b")
    assert not await box.take_probe("c")


async def test_the_memory_of_pauses_is_bounded(redis: Redis) -> None:
    box = Pauses(redis)
    for _ in range(520):
        await box.begin(QUOTA, 0, "one")
        await box.end()
    assert await redis.llen(keys.PAUSES) == 500
    assert await redis.ttl(keys.PAUSES) > 0


@pytest.mark.parametrize(
    ("paused", "begin", "seconds"),
    [
        ([], 0, 0),
        ([(10, 20)], 0, 10),
        ([(10, 20)], 15, 5),
        ([(10, 20)], 20, 0),
        ([(10, 20), (15, 30)], 0, 20),
        ([(15, 18), (10, 20)], 0, 10),
        ([(10, 20), (40, 50), (45, 100)], 12, 68),
        ([(90, 200)], 0, 10),
        ([(150, 200)], 0, 0),
        ([(10, 20)], 500, 0),
        ([(20, 10)], 0, 0),
    ],
)
def test_time_counts_once_however_pauses_overlap(
    paused: list[tuple[float, float]], begin: float, seconds: float
) -> None:
    assert Times(100.0, paused).paused_since(begin) == seconds


@pytest.mark.parametrize(
    "kept",
    [
        b'{"reason": "r", "since": "1", "probe_at": "2", "probe": ""}',
        b'{"reason": "r", "since": true, "probe_at": 2, "probe": ""}',
        b'{"reason": "r", "since": 1, "probe_at": 2, "probe": "", "more": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
)
async def test_what_no_probe_can_end_is_no_pause(redis: Redis, kept: bytes) -> None:
    await redis.set(keys.PAUSE, kept)
    pauses = Pauses(redis)
    assert not await pauses.probe_now()
    assert await pauses.now() == ("", None)
