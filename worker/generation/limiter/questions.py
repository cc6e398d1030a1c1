"""Questions of one process to the limiter: one command asks for all calls that wait, in their order of arrival.

With one command for each call a process gets one place per round trip: 400 a minute from a Redis that is 150 ms away.
"""

import asyncio
from asyncio import Future, Task
from collections.abc import Awaitable, Callable
from contextvars import Context
from itertools import islice
from typing import NamedTuple

from worker.generation.retrying import until_available

#: In one command; Redis answers no other one in the milliseconds that this many calls take.
MOST_AT_ONCE = 500


class Question(NamedTuple):
    """A call that wants a place, if fewer than `most` calls are in the window; 0: in any case."""

    token: str
    most: int


class Answer(NamedTuple):
    """Microseconds until the call may start, and the pause of the intake as Redis keeps it."""

    delay: float
    pause: object


class Questions:
    """`send` asks Redis for some calls at once; an unavailable Redis is asked again, with the same tokens."""

    def __init__(self, send: Callable[[list[Question]], Awaitable[list[Answer]]], give_up_seconds: float) -> None:
        self._send = send
        self._give_up_seconds = give_up_seconds
        self._open: dict[Future[Answer], Question] = {}
        self._sent: Future[None] | None = None
        self._sending: Task[None] | None = None

    async def ask(self, question: Question) -> Answer:
        """Return the answer; a question that is cancelled is never sent later."""
        answer: Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[answer] = question
        if self._sending is None:
            # In no context of a call: log lines of a retry concern all of them.
            self._sending = asyncio.create_task(self._send_all(), context=Context())
        try:
            return await answer
        except asyncio.CancelledError:
            self._open.pop(answer, None)
            if self._sent:  # its question may be under way: it must not arrive after its place was taken back
                await asyncio.wait({self._sent}, timeout=self._give_up_seconds)
            raise

    async def _send_all(self) -> None:
        """Send what waits, one command after another: on different connections calls could overtake each other."""
        try:
            while self._open:
                await until_available(self._send_some)
        except Exception as error:
            for answer in self._open:
                answer.set_exception(error)
        finally:
            for answer in self._open:
                answer.cancel()  # where the event loop ends
            self._open.clear()
            self._sending = None

    async def _send_some(self) -> None:
        asked = list(islice(self._open.items(), MOST_AT_ONCE))
        if not asked:
            return
        self._sent = asyncio.get_running_loop().create_future()
        try:
            answers = await self._send([question for _, question in asked])
        finally:
            self._sent.set_result(None)
            self._sent = None
        for (future, _), answer in zip(asked, answers, strict=True):
            self._open.pop(future, None)
            if not future.done():
                future.set_result(answer)
