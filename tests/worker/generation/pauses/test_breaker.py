"""When OpenAI's answers open the breaker, and which session OpenAI fails alone."""

import asyncio
from functools import partial
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from worker.errors import Paused, ServiceOutage
from worker.generation import keys
from worker.generation.pauses import breaker as module
from worker.generation.pauses.breaker import ATTEMPT, Attempt, Breaker
from worker.generation.pauses.pauses import OPENAI, QUOTA, Pause, Pauses
from worker.settings import Settings


@pytest.fixture
def breaker(redis: Redis, settings: Settings) -> Breaker:
    return Breaker(redis, settings)


async def calls(breaker: Breaker, *answers: bool, session: UUID | None = None) -> UUID:
    """Answers of OpenAI to one session."""
    session = session or uuid4()
    ATTEMPT.set(Attempt(session))
    for available in answers:
        await breaker.answered(available)
    return session


async def opened(redis: Redis) -> Pause | None:
    return (await Pauses(redis).now())[1]


async def test_half_of_the_latest_calls_open_it_whatever_there_was_before(redis: Redis, breaker: Breaker) -> None:
    for _ in range(100):
        await calls(breaker, True)
    for _ in range(9):
        await calls(breaker, False)
    assert await opened(redis) is None
    await calls(breaker, False)
    pause = await opened(redis)
    assert pause is not None
    assert pause.reason == OPENAI
    assert pause.probe_at - pause.since == pytest.approx(5, abs=0.01)


async def test_one_picture_that_openai_chokes_on_does_not_open_it(redis: Redis, breaker: Breaker) -> None:
    await calls(breaker, True)
    await calls(breaker, *[False] * 30)
    assert await opened(redis) is None


async def test_failures_among_enough_successes_do_not_open_it(redis: Redis, breaker: Breaker) -> None:
    for _ in range(50):
        await calls(breaker, False, True, True)
    assert await opened(redis) is None


async def test_old_failures_do_not_count(redis: Redis, breaker: Breaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW_SECONDS", 0.2)
    for _ in range(9):
        await calls(breaker, False)
    await asyncio.sleep(0.25)
    for _ in range(9):
        await calls(breaker, False)
    assert await opened(redis) is None


async def test_a_single_sessions_last_retry_opens_it_when_openai_served_nobody_lately(
    redis: Redis, breaker: Breaker
) -> None:
    await calls(breaker, False)
    assert await breaker.failed() == 0
    assert await opened(redis) is not None


async def test_a_single_sessions_last_retry_does_not_open_it_while_others_are_served(
    redis: Redis, breaker: Breaker
) -> None:
    await calls(breaker, True)
    await calls(breaker, False)
    await breaker.failed()
    assert await opened(redis) is None


async def test_failures_count_for_a_session_only_with_successes_of_others_between(
    redis: Redis, breaker: Breaker
) -> None:
    session = await calls(breaker, False)
    assert [await breaker.failed() for _ in range(4)] == [0, 0, 0, 0]
    for expected in (1, 2, 3):
        await asyncio.sleep(0.002)
        await calls(breaker, True)
        await asyncio.sleep(0.002)
        await calls(breaker, False, session=session)
        assert await breaker.failed() == expected
    assert 0 < await redis.ttl(keys.failures(session)) <= 86400


async def test_a_failed_probe_prolongs_the_pause(redis: Redis, breaker: Breaker) -> None:
    pauses = Pauses(redis)
    await pauses.begin(QUOTA, 0, "")
    session = await calls(breaker)
    await pauses.take_probe("a")
    await pauses.give_probe("a", str(session))
    await breaker.failed()
    assert not await pauses.take_probe("a")


async def test_the_end_of_a_pause_forgets_the_failures(redis: Redis, breaker: Breaker) -> None:
    for _ in range(10):
        await calls(breaker, False)
    await Pauses(redis).end()
    for _ in range(9):
        await calls(breaker, False)
    assert await opened(redis) is None


async def test_a_call_is_held_back_in_a_pause_unless_it_is_the_probes_first(redis: Redis, breaker: Breaker) -> None:
    pauses = Pauses(redis)
    session = await calls(breaker)
    breaker.check(await redis.get(keys.PAUSE))
    await pauses.begin(QUOTA, 0, "")
    with pytest.raises(Paused, match=QUOTA):
        breaker.check(await redis.get(keys.PAUSE))
    await pauses.take_probe("a")
    await pauses.give_probe("a", str(session))
    breaker.check(await redis.get(keys.PAUSE))
    await breaker.answered(False)
    with pytest.raises(ServiceOutage):
        breaker.check(await redis.get(keys.PAUSE))


async def test_a_failed_call_is_not_retried_in_a_pause_and_a_probes_never(redis: Redis, breaker: Breaker) -> None:
    stopped: list[str] = []
    await calls(breaker)
    for name, probe in (("closed", False), ("probe", True)):
        ATTEMPT.set(Attempt(uuid4(), probe=probe, stop=partial(stopped.append, name)))
        await breaker.answered(False)
        await breaker.answered(True)
    await Pauses(redis).begin(QUOTA, 60, "")
    ATTEMPT.set(Attempt(uuid4(), stop=lambda: stopped.append("paused")))
    await breaker.answered(True)
    await breaker.answered(False)
    assert stopped == ["probe", "paused"]


async def test_a_success_from_before_the_clock_was_set_back_does_not_keep_it_closed(
    redis: Redis, breaker: Breaker
) -> None:
    seconds, _ = await redis.time()
    await redis.set(keys.OPENAI_SERVED, (seconds + 300) * 1000)
    await calls(breaker, False)
    await breaker.failed()
    assert await opened(redis) is not None
