"""One limit for the whole OpenAI account: a true sliding window over all instances, served in order of arrival.

Every call has one entry in a sorted set, scored with the moment at which it starts by Redis' clock. A call that arrives
reserves the first moment at which the window has room and sleeps until then. A process that dies wastes its places
and blocks no other call. Why this is no library: docs/decisions/0005-rate-limit.md.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import uuid4

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from worker.clients import redis_client
from worker.errors import ServiceUnavailable
from worker.generation import keys, odd
from worker.generation.limiter.questions import Answer, Question, Questions
from worker.generation.limiter.scripts import PLACE, RELEASE, USAGE
from worker.generation.limiter.share import SILENT, LocalShare
from worker.generation.limiter.slack import SHARED_SLACK_SECONDS, SLACK_SECONDS, Slack
from worker.settings import Settings

#: How many times per window a waiting call looks whether it may start sooner because others gave up.
POLLS_PER_WINDOW = 12
#: ... and a call that waits long looks only after this share of its wait: each look costs a command.
_POLL_SHARE = 0.25
#: Of one process at once: a crowd that arrives together shares these connections.
MAX_CONNECTIONS = 16
_GIVE_UP_SECONDS = 2.0
#: A distant Redis is asked again after this, which moves the call: a late answer names a moment that has passed.
_ANSWER_SECONDS = 2.0


class Usage(NamedTuple):
    """Use of the account, all instances together."""

    #: Calls that started within the last window.
    calls: int
    #: Calls that wait for their turn.
    waiting: int


def limiter_of(settings: Settings, redis: Redis, check: Callable[[object], None] | None = None) -> "Limiter":
    """The limiter on this region's Redis, or on the Redis that counts for all regions; connects to nothing."""
    if not settings.limiter_redis_url:
        return Limiter(redis, settings.openai_requests_per_minute, check=check)
    client = redis_client(settings, settings.limiter_redis_url)
    client.on_wrong_type = odd.set_aside_wrong_keys
    return Limiter(
        client,
        settings.openai_requests_per_minute,
        slack_seconds=SHARED_SLACK_SECONDS,
        check=check,
        pause_redis=redis,
        local_share=settings.limiter_local_share,
    )


class Limiter:
    """`acquire` waits for a Redis that is away; `usage` raises ServiceUnavailable."""

    def __init__(
        self,
        redis: Redis,
        per_minute: int,
        window_seconds: float = 60.0,
        slack_seconds: tuple[float, float] = SLACK_SECONDS,
        check: Callable[[object], None] | None = None,
        pause_redis: Redis | None = None,
        local_share: int = 0,
    ) -> None:
        """`check` sees the pause as Redis keeps it, before a call may start; its error gives the place back.

        `pause_redis` is the region's own where the calls are counted elsewhere: it keeps the pause, and counts up to
        `local_share` calls while the limiter is away.
        """
        self.share = (
            LocalShare(pause_redis, redis, per_minute, local_share, window_seconds, slack_seconds[1])
            if pause_redis and local_share
            else None
        )
        self._pause_redis = pause_redis
        self._per_minute = per_minute
        self._check = check
        self._window_seconds = window_seconds
        self._slack = Slack(*slack_seconds)
        self._tolerance_seconds = slack_seconds[0] / 3
        self._poll_seconds = window_seconds / POLLS_PER_WINDOW
        self._silent = int(window_seconds * SILENT * 1e6)
        self._place = redis.register_script(PLACE)
        self._release = redis.register_script(RELEASE)
        self._usage = redis.register_script(USAGE)
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self._questions = Questions(self._ask_for_places, _GIVE_UP_SECONDS)
        #: Token of the call that may be made, and when (by this process' clock) its place was given.
        self._turn = ContextVar[tuple[str, float] | None]("turn", default=None)

    async def acquire(self, most: int = 0) -> float:
        """Wait until one call may be made and return the seconds that took; a wait that is cancelled costs no place.

        With `most` no place is reserved: the call waits until the window has fewer calls, the waiting ones included.
        """
        arrived = time.monotonic()
        token = uuid4().hex
        try:
            delay = await self._ask_for_place(token, most)
            while delay > 0:
                seconds = delay / 1e6
                await asyncio.sleep(min(seconds, max(self._poll_seconds, seconds * _POLL_SHARE)))
                delay = await self._ask_for_place(token, most)
        except BaseException:
            await self._try(self._release, token)
            raise
        self._turn.set((token, time.monotonic()))
        return time.monotonic() - arrived

    async def sent(self) -> None:
        """Note that the call of this asyncio task was sent. After a late call the calls behind keep their distance.

        Without it a call that is delayed between its turn and the network could share a minute with 300 later ones.
        """
        if turn := self._turn.get():
            token, given_at = turn
            delay = time.monotonic() - given_at
            self._slack.note(delay)
            if delay > self._tolerance_seconds:
                await self._try(self._place, token)

    async def usage(self) -> Usage:
        """The use of the account now."""
        try:
            return Usage(*await self._usage(keys=[keys.LIMITER], args=[self._window]))
        except (RedisError, OSError) as error:
            raise ServiceUnavailable(f"Redis did not count the calls to OpenAI: {error}") from error

    @property
    def _window(self) -> int:
        """Return the window in microseconds."""
        return int((self._window_seconds + self._slack.seconds) * 1e6)

    async def _ask_for_place(self, token: str, most: int = 0) -> float:
        """Ask with one token for all tries: a second token would queue behind the place of the first."""
        delay, pause = await self._questions.ask(Question(token, most))
        if self._check:
            self._check(pause)
        return delay

    async def _ask_for_places(self, questions: list[Question]) -> list[Answer]:
        pause, *delays = await self._ask(self._place, *questions)
        if self._pause_redis:
            try:
                pause = await self._pause_redis.get(keys.PAUSE)
            except OSError as error:
                raise ServiceUnavailable(f"Redis did not say if calls are paused: {error}") from error
        return [Answer(float(delay), pause) for delay in delays]

    async def _try(self, script: AsyncScript, token: str) -> None:
        """Run a script for a few seconds at most, whatever the answer."""
        with suppress(ServiceUnavailable, TimeoutError):
            async with asyncio.timeout(_GIVE_UP_SECONDS):
                await self._run(script, token)

    async def _run(self, script: AsyncScript, token: str) -> None:
        """Run a script until Redis has answered, even if cancelled: else a call could arrive after its release."""
        asking = asyncio.create_task(self._ask(script, Question(token, 0)))
        try:
            await asyncio.shield(asking)
        except asyncio.CancelledError:
            await asyncio.wait({asking}, timeout=_GIVE_UP_SECONDS)
            if not asking.cancel():
                asking.exception()  # no other caller asks for the error
            raise

    async def _ask(self, script: AsyncScript, *questions: Question) -> Any:
        tolerance = int(self._tolerance_seconds * 1e6)
        calls = [value for question in questions for value in question]
        try:
            async with self._connections, asyncio.timeout(_ANSWER_SECONDS if self._pause_redis else None):
                if self.share and self.share.alone:
                    ask_alone = self.share.release if script is self._release else self.share.place
                    if answer := await ask_alone(self._window, tolerance, *calls):
                        return answer
                keeps_share = int(self.share is not None)
                return await script(
                    keys=[keys.LIMITER, keys.PAUSE, keys.LIMITER_SHARES],
                    args=[self._per_minute, self._window, tolerance, keeps_share, self._silent, *calls],
                )
        except (RedisError, OSError) as error:
            raise ServiceUnavailable(f"Redis did not grant a call to OpenAI: {error}") from error
