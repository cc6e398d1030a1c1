"""Reasons to take nothing from the queue, and how each of them ends."""

from pathlib import Path

from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.intake import HELD, Intake


async def test_messages_are_taken_when_nobody_objects(redis: Redis) -> None:
    assert await Intake(redis).paused() == ""


async def test_an_operators_pause_has_no_end_of_its_own(redis: Redis) -> None:
    assert await Intake(redis).stop("maintenance")
    assert await Intake(redis).paused() == "maintenance"
    assert await redis.ttl(keys.INTAKE_STOPPED) == -1


async def test_a_second_pause_says_that_there_was_one(redis: Redis) -> None:
    await Intake(redis).stop("maintenance")
    assert not await Intake(redis).stop("maintenance")


async def test_resume_says_whether_there_was_a_pause(redis: Redis) -> None:
    await Intake(redis).stop("maintenance")
    assert await Intake(redis).resume()
    assert not await Intake(redis).resume()
    assert await Intake(redis).paused() == ""


async def test_the_end_of_a_quota_pause_does_not_end_maintenance(redis: Redis) -> None:
    intake = Intake(redis, pause_seconds=60)
    await intake.stop("maintenance")
    await intake.pause("quota_exhausted")
    assert await intake.paused() == "maintenance"
    await redis.delete(keys.INTAKE_PAUSED)
    assert await intake.paused() == "maintenance"


async def test_resume_leaves_a_quota_pause(redis: Redis) -> None:
    intake = Intake(redis, pause_seconds=60)
    await intake.stop("maintenance")
    await intake.pause("quota_exhausted")
    await intake.resume()
    assert await intake.paused() == "quota_exhausted"


async def test_a_pause_without_a_reason_hides_no_other(redis: Redis) -> None:
    intake = Intake(redis, pause_seconds=60)
    await intake.stop("")
    await intake.pause("quota_exhausted")
    assert await intake.paused() == "quota_exhausted"


async def test_a_rollouts_file_holds_one_container_back(redis: Redis, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    held = Intake(redis, hold_file=hold)
    assert await held.paused() == HELD
    assert await Intake(redis).paused() == ""
    hold.unlink()
    assert await held.paused() == ""
