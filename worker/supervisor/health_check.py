"""The look at everything that this container needs: Redis, the database, and the parts of this worker."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import RedisError

from worker.clients.redis_connections import problem
from worker.errors import PartEnded
from worker.health import Health
from worker.logs import get_logger

log = get_logger(__name__)

_CHECK_SECONDS = 2.0
_DATABASE_CHECK_SECONDS = 15.0
_PATIENCE_SECONDS = 1.0
#: Redis is asked only when no part has heard from it for so long.
_PING_SECONDS = 10.0
#: Celery's own loop may stand still this long although Redis is there; then it hangs.
_CELERY_SILENCE_SECONDS = 60.0


class HealthCheck:
    """Keeps Health true. `try_redis` raises what Redis raises; `database_usable` tells if the database works."""

    def __init__(
        self, health: Health, try_redis: Callable[[], Awaitable[Any]], database_usable: Callable[[], Awaitable[bool]]
    ) -> None:
        self._health = health
        self._try_redis = try_redis
        self._database_usable = database_usable

    async def run_forever(self) -> None:
        """Look every two seconds.

        Raises:
            PartEnded: a part hangs.
        """
        database_checked_at = redis_away_at = time.monotonic()
        while True:
            before = time.monotonic()
            await asyncio.sleep(_CHECK_SECONDS)
            if time.monotonic() - before > 2 * _CHECK_SECONDS:
                # This process stood still: no part could be heard meanwhile.
                for name, part in self._health.parts.items():
                    self._health.beat(name, **part.detail)
                continue
            if not self._health.redis_connected or time.monotonic() - self._health.redis_seen > _PING_SECONDS:
                await self._check_redis()
            if not self._health.redis_connected:
                redis_away_at = time.monotonic()
            if time.monotonic() - database_checked_at > _DATABASE_CHECK_SECONDS:
                database_checked_at = time.monotonic()
                self._health.database_connected = await self._database_usable()
            self._check_parts(redis_seconds=time.monotonic() - redis_away_at)

    def _check_parts(self, redis_seconds: float) -> None:
        if self._health.state == "draining":
            return  # some parts have been stopped
        if hung := self._health.hung():
            raise PartEnded(f"no heartbeat of {', '.join(hung)}")
        celery = self._health.parts.get("celery")
        silence = celery.detail["loop_silent_seconds"] if celery else 0
        if min(silence, redis_seconds) > _CELERY_SILENCE_SECONDS and self._health.state == "ready":
            raise PartEnded(f"celery has stood still for {silence:.0f} s")

    async def _check_redis(self) -> None:
        before, self._health.redis_problem = self._health.redis_problem, await self._redis_problem()
        self._health.redis_connected = not self._health.redis_problem
        self._health.redis_seen = time.monotonic() if self._health.redis_connected else 0.0
        if self._health.redis_problem and self._health.redis_problem != before:
            log.warning("redis_lost", problem=self._health.redis_problem)
        elif before and self._health.redis_connected:
            log.info("redis_recovered")

    async def _redis_problem(self) -> str:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._try_redis()
        except (RedisError, OSError) as error:
            return problem(error)
        return ""
