"""The circuit breaker in front of OpenAI: counts its answers over all instances, and holds calls back in a pause."""

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.errors import Paused, ServiceOutage
from worker.generation import keys
from worker.generation.pauses.pauses import OPENAI, Pause
from worker.generation.pauses.scripts import COUNT, FAILED
from worker.generation.retrying import until_available
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)

#: Older answers say nothing about OpenAI now.
_WINDOW_SECONDS = 60
#: A single session's failure opens the breaker only when OpenAI has served no session for this long.
_QUIET_SECONDS = 10.0
#: A paid picture does not wait longer for the count of its answer.
_PATIENCE_SECONDS = 2.0
_OPENED = 1


@dataclass
class Attempt:
    """One session on its way to the paid call."""

    session_id: UUID
    began_at: float = field(default_factory=time.monotonic)
    #: What OpenAI showed last: it was available or not. None: no call was made.
    available: bool | None = None
    #: A call is on its way.
    waiting: bool = False
    #: The pause's one probe, which is not retried.
    probe: bool = False
    #: Ends the wait for the next retry.
    stop: Callable[[], None] | None = None


#: Of the asyncio task that makes the call.
ATTEMPT = ContextVar[Attempt | None]("attempt", default=None)


class Breaker:
    """`check` and `answered` are for the session whose Attempt is the task's."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._settings = settings
        self._count = redis.register_script(COUNT)
        self._failed = redis.register_script(FAILED)

    def check(self, kept: object) -> None:
        """Check the pause, as Redis keeps it, before each call.

        Raises Paused, before anything was paid for, and ServiceOutage for a probe whose call has failed.
        """
        attempt, pause = ATTEMPT.get(), Pause.read(kept)
        if pause is None or attempt is None:
            return
        if pause.probe != str(attempt.session_id):
            raise Paused(pause.reason, f"the intake is paused: {pause.reason}")
        if attempt.available is False:
            raise ServiceOutage(OPENAI, "the probe's call failed")

    async def answered(self, available: bool) -> None:
        """Count one call's end, and stop the retries of a call that a pause would hold back; costs a moment at most."""
        attempt = ATTEMPT.get()
        if attempt is None:
            return
        attempt.available, attempt.waiting = available, False
        held = False
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                state = await self._count(
                    keys=[keys.PAUSE, keys.OPENAI_ANSWERS, keys.OPENAI_SERVED],
                    args=[
                        int(available),
                        str(attempt.session_id),
                        self._settings.breaker_calls,
                        self._settings.breaker_failures,
                        _WINDOW_SECONDS * 1000,
                        OPENAI,
                        self._probe_milliseconds,
                    ],
                )
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("openai_answer_not_counted", error=type(error).__name__)
        else:
            held = state > 0
            if state == _OPENED:
                log.error("breaker_opened", failures=self._settings.breaker_failures)
        if attempt.stop and not available and (attempt.probe or held):
            attempt.stop()

    async def failed(self) -> int:
        """Count the failure of the session's last retry. Return how often OpenAI has failed it while it served others.

        The pause of a failed probe goes on, and the breaker opens when OpenAI has served no session lately.
        """
        attempt = ATTEMPT.get()
        assert attempt is not None  # noqa: S101  # the pipeline sets it
        quiet = max(_QUIET_SECONDS, time.monotonic() - attempt.began_at)
        session = str(attempt.session_id)
        count = await until_available(
            self._failed,
            keys=[keys.PAUSE, keys.OPENAI_ANSWERS, keys.OPENAI_SERVED, keys.failures(session)],
            args=[session, int(quiet * 1000), self._probe_milliseconds, OPENAI],
        )
        return int(count)

    @property
    def _probe_milliseconds(self) -> int:
        return int(self._settings.breaker_probe_seconds * 1000)
