"""Questions to the limiter travel together, in order, and only while a call wants their answer."""

import asyncio

import pytest

from worker.errors import ServiceUnavailable
from worker.generation.limiter.questions import MOST_AT_ONCE, Answer, Question, Questions


class Distant:
    """Answers each command once it is let go, with the number of its question as the delay."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.goes = asyncio.Event()
        self.error: Exception | None = None
        self.questions = Questions(self._send, give_up_seconds=5)

    async def _send(self, questions: list[Question]) -> list[Answer]:
        self.commands.append([question.token for question in questions])
        error, self.error = self.error, None
        await self.goes.wait()
        if error:
            raise error
        return [Answer(float(question.token), None) for question in questions]

    def ask(self, *numbers: int) -> list[asyncio.Task[Answer]]:
        return [asyncio.create_task(self.questions.ask(Question(str(number), 0))) for number in numbers]


async def until_sent(distant: Distant) -> None:
    async with asyncio.timeout(5):
        while not distant.commands:
            await asyncio.sleep(0.01)


async def test_questions_that_arrive_while_one_is_under_way_share_the_next_command_in_order() -> None:
    distant = Distant()
    asked = distant.ask(0)
    await until_sent(distant)
    asked += distant.ask(1, 2, 3)
    await asyncio.sleep(0)
    distant.goes.set()
    assert [answer.delay for answer in await asyncio.gather(*asked)] == [0, 1, 2, 3]
    assert distant.commands == [["0"], ["1", "2", "3"]]


async def test_one_command_has_a_bounded_number_of_questions() -> None:
    distant = Distant()
    distant.goes.set()
    await asyncio.gather(*distant.ask(*range(MOST_AT_ONCE + 1)))
    assert [len(command) for command in distant.commands] == [MOST_AT_ONCE, 1]


async def test_an_unavailable_redis_is_asked_again_without_the_questions_of_calls_that_gave_up() -> None:
    distant = Distant()
    distant.error = ServiceUnavailable("away")
    first, second = distant.ask(0, 1)
    await until_sent(distant)
    first.cancel()
    distant.goes.set()
    assert (await second).delay == 1
    assert distant.commands == [["0", "1"], ["1"]]


async def test_a_call_that_gives_up_waits_for_the_command_that_has_its_question() -> None:
    distant = Distant()
    (asked,) = distant.ask(0)
    await until_sent(distant)
    asked.cancel()
    await asyncio.sleep(0.05)
    assert not asked.done()
    distant.goes.set()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_an_unexpected_error_reaches_all_calls_and_ends_no_later_one() -> None:
    distant = Distant()
    distant.goes.set()
    distant.error = TypeError("not a number")
    answers = await asyncio.gather(*distant.ask(0, 1), return_exceptions=True)
    assert [type(answer) for answer in answers] == [TypeError, TypeError]
    assert [answer.delay for answer in await asyncio.gather(*distant.ask(2))] == [2]
