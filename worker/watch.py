"""What the supervisor does all the time beside the queue: heartbeat, sweeps, and a look at every part."""

import asyncio
import time

from redis.exceptions import RedisError

from worker.errors import PartEnded, ServiceUnavailable
from worker.generation.claims import Claims
from worker.generation.consumer import Consumer
from worker.generation.sessions import Sessions
from worker.generation.sweep import Sweeper
from worker.health import Health
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)

_CHECK_SECONDS = 2.0
_DATABASE_CHECK_SECONDS = 15.0
#: Celery's own loop may stand still this long although Redis is there; then it hangs.
_CELERY_SILENCE_SECONDS = 60.0


class Watch:
    """Three loops that run until cancelled; each is a part of its own."""

    def __init__(
        self,
        settings: Settings,
        health: Health,
        *,
        claims: Claims,
        sessions: Sessions,
        sweeper: Sweeper,
        consumer: Consumer,
    ) -> None:
        self._settings = settings
        self._health = health
        self._claims = claims
        self._sessions = sessions
        self._sweeper = sweeper
        self._consumer = consumer
        self._lost_heartbeat_at = float("-inf")

    async def heartbeat_forever(self) -> None:
        """Tell the other instances that this one lives."""
        while True:
            try:
                if not await self._claims.heartbeat():
                    # Redis was away or this process was stopped: leases may have run out, too.
                    self._lost_heartbeat_at = time.monotonic()
                    log.warning("heartbeat_lost")
            except (RedisError, OSError) as error:
                log.warning("heartbeat_failed", error=type(error).__name__)
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(self._settings.lease_seconds / 3)

    async def sweep_forever(self) -> None:
        """Look for what nobody works on, here and everywhere."""
        while True:
            await asyncio.sleep(self._settings.sweep_interval_seconds)
            self._health.beat("sweeper")
            # After a lost heartbeat everyone, we included, first gets the time to renew the leases.
            if time.monotonic() - self._lost_heartbeat_at < self._settings.lease_seconds / 2:
                continue
            try:
                await self._consumer.reforward()
                await self._sweeper.sweep()
            except (RedisError, OSError, ServiceUnavailable) as error:
                log.warning("sweep_failed", error=str(error))

    async def check_forever(self) -> None:
        """Keeps /health true, and ends the process when a part hangs."""
        database_checked = redis_away_at = time.monotonic()
        while True:
            before = time.monotonic()
            await asyncio.sleep(_CHECK_SECONDS)
            if time.monotonic() - before > 2 * _CHECK_SECONDS:
                # It was us who stood still: nobody could be heard meanwhile.
                for name, part in self._health.parts.items():
                    self._health.beat(name, **part.detail)
                continue
            self._health.redis_connected = await self._pings()
            if not self._health.redis_connected:
                redis_away_at = time.monotonic()
            if time.monotonic() - database_checked > _DATABASE_CHECK_SECONDS:
                database_checked = time.monotonic()
                self._health.database_connected = await self._database_answers()
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

    async def _pings(self) -> bool:
        try:
            async with asyncio.timeout(1):
                await self._claims.redis.ping()
        except (RedisError, OSError):
            return False
        return True

    async def _database_answers(self) -> bool:
        try:
            return not await self._sessions.missing_functions()
        except ServiceUnavailable:
            return False
