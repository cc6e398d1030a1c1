"""What the supervisor does all the time beside the queue: heartbeat, sweeps, audits, and a look at every part."""

import asyncio
import time

from postgrest import AsyncPostgrestClient
from redis.exceptions import RedisError

from worker.errors import PartEnded, ServiceUnavailable
from worker.generation import keys, queue_metrics
from worker.generation.audit import audit
from worker.generation.claims import Claims
from worker.generation.consumer import Consumer
from worker.generation.retrying import until_available
from worker.generation.sessions import Sessions
from worker.generation.sweep import Sweeper
from worker.health import Health
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)

_CHECK_SECONDS = 2.0
#: Of a lease, between two heartbeats.
_BEAT_SHARE = 0.4
#: A start that waited longer for Redis saw the end of an outage, not a slow connection.
_REDIS_AWAY_SECONDS = 0.5
_DATABASE_CHECK_SECONDS = 15.0
_AUDIT_CHECK_SECONDS = 60.0
#: Redis is asked only when no part has heard from it for so long.
_PING_SECONDS = 10.0
#: Celery's own loop may stand still this long although Redis is there; then it hangs.
_CELERY_SILENCE_SECONDS = 60.0


class Watch:
    """Loops that run until cancelled; each is a part of its own."""

    def __init__(
        self,
        settings: Settings,
        health: Health,
        *,
        claims: Claims,
        sessions: Sessions,
        database: AsyncPostgrestClient,
        sweeper: Sweeper,
        consumer: Consumer,
    ) -> None:
        self._settings = settings
        self._health = health
        self._claims = claims
        self._sessions = sessions
        self._database = database
        self._sweeper = sweeper
        self._consumer = consumer
        self._beaten_at = time.monotonic()
        self._lost_heartbeat_at = float("-inf")

    async def join(self) -> None:
        """The first heartbeat, as soon as Redis is there."""
        asked = time.monotonic()
        await until_available(self._claims.heartbeat)
        self._beaten_at = time.monotonic()
        if time.monotonic() - asked > _REDIS_AWAY_SECONDS:
            # The others come back from the same outage: they, too, only now say that they live.
            self._lost_heartbeat_at = time.monotonic()

    async def heartbeat_forever(self) -> None:
        """Tell the other instances that this one lives, unless a sweep has just done so."""
        while True:
            rest = self._beaten_at + _BEAT_SHARE * self._settings.lease_seconds - time.monotonic()
            if rest > 0:
                await asyncio.sleep(rest)
                continue
            try:
                await self._beat()
            except (RedisError, OSError) as error:
                log.warning("heartbeat_failed", error=type(error).__name__)
                await asyncio.sleep(1)

    async def sweep_forever(self) -> None:
        """Look for what nobody works on, here and everywhere."""
        while True:
            await asyncio.sleep(self._settings.sweep_interval_seconds)
            self._health.beat("sweeper")
            try:
                await self.sweep()
            except (RedisError, OSError, ServiceUnavailable) as error:
                log.warning("sweep_failed", error=str(error))
            self._health.beat("sweeper")

    async def sweep(self) -> None:
        """One look; none soon after an outage, when everyone, we included, first gets the time to renew the leases."""
        # Asked here, too: this may be the first thing that happens after the outage.
        await self._beat()
        if time.monotonic() - self._lost_heartbeat_at > self._settings.lease_seconds / 2:
            await self._consumer.reforward()
            await self._sweeper.sweep()

    async def _beat(self) -> None:
        there = await self._claims.heartbeat()
        if self._claims.redis_full != self._health.redis_full:
            log.warning("redis_filled" if self._claims.redis_full else "redis_room_found")
        self._health.redis_full = self._claims.redis_full
        now = time.monotonic()
        silent_seconds, self._beaten_at = now - self._beaten_at, now
        # Redis was away or this process was stopped: leases may have run out, too, and those that were due for renewal
        # before this heartbeat. Half a lease without one is no chance.
        if not there or silent_seconds > self._settings.lease_seconds / 2:
            self._lost_heartbeat_at = now
            log.warning("heartbeat_lost", silent_seconds=round(silent_seconds, 1))

    async def audit_forever(self) -> None:
        """Prove the books now and then, one instance for all, and show the result as a metric."""
        interval = self._settings.audit_interval_seconds
        while True:
            try:
                if interval and await self._claims.redis.set(keys.AUDIT_LOCK, 1, nx=True, ex=interval):
                    report = await audit(self._database, self._claims.redis)
                    await queue_metrics.keep_audit(self._claims.redis, report)
                    show = log.info if report.right else log.error
                    show("audit_ended", right=report.right, drift=report.drift, seconds=round(report.seconds, 1))
            except (RedisError, OSError, ServiceUnavailable) as error:
                log.warning("audit_failed", error=str(error))
            except Exception:
                # One odd row must not end the container.
                log.exception("audit_failed")
            await asyncio.sleep(min(_AUDIT_CHECK_SECONDS, interval or _AUDIT_CHECK_SECONDS))

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
            if time.monotonic() - self._health.redis_seen > _PING_SECONDS:
                self._health.redis_connected = await self._pings()
                self._health.redis_seen = time.monotonic() if self._health.redis_connected else 0.0
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
            return not (await self._sessions.installed()).missing
        except ServiceUnavailable:
            return False
