"""Reasons to take nothing from the queue, and how each of them ends."""

from pathlib import Path

from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.pauses.intake import HELD, Intake
from worker.generation.pauses.pauses import QUOTA, Pauses


async def test_messages_are_taken_when_nobody_objects(redis: Redis) -> None:
    assert (await Intake(Pauses(redis)).state()).reason == ""


async def test_an_operators_pause_has_no_end_of_its_own(redis: Redis) -> None:
    assert await Pauses(redis).stop("maintenance")
    assert (await Intake(Pauses(redis)).state()).reason == "maintenance"
    assert await redis.ttl(keys.INTAKE_STOPPED) == -1


async def test_a_second_pause_says_that_there_was_one(redis: Redis) -> None:
    await Pauses(redis).stop("maintenance")
    assert not await Pauses(redis).stop("maintenance")


async def test_resume_says_whether_there_was_a_pause(redis: Redis) -> None:
    pauses = Pauses(redis)
    await pauses.stop("maintenance")
    assert await pauses.resume()
    assert not await pauses.resume()
    assert (await Intake(pauses).state()).reason == ""


async def test_an_operators_pause_hides_the_automatic_one_and_lets_nothing_probe(redis: Redis) -> None:
    pauses = Pauses(redis)
    await pauses.begin(QUOTA, 0, "one")
    await pauses.stop("maintenance")
    state = await Intake(pauses).state()
    assert (state.reason, state.may_probe) == ("maintenance", False)
    assert await pauses.end()
    assert (await Intake(pauses).state()).reason == "maintenance"


async def test_resume_leaves_an_automatic_pause(redis: Redis) -> None:
    pauses = Pauses(redis)
    await pauses.stop("maintenance")
    await pauses.begin(QUOTA, 60, "one")
    await pauses.resume()
    state = await Intake(pauses).state()
    assert (state.reason, state.may_probe) == (QUOTA, True)


async def test_a_pause_without_a_reason_hides_no_other(redis: Redis) -> None:
    pauses = Pauses(redis)
    await pauses.stop("")
    await pauses.begin(QUOTA, 60, "one")
    assert (await Intake(pauses).state()).reason == QUOTA


async def test_a_rollouts_file_holds_one_container_back(redis: Redis, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    held = Intake(Pauses(redis), hold)
    assert (await held.state()).reason == HELD
    assert (await Intake(Pauses(redis)).state()).reason == ""
    hold.unlink()
    assert (await held.state()).reason == ""
