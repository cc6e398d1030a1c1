"""Everything that this container needs to do its work, as last seen. Asking never waits, so /health is always fast."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from redis.exceptions import RedisError

from worker import redis_client
from worker.errors import PartEnded
from worker.logs import get_logger

log = get_logger(__name__)

#: A part that has not shown itself for this long counts as hung.
HEARTBEAT_TIMEOUT_SECONDS = 30.0
_CHECK_SECONDS = 2.0
_DATABASE_CHECK_SECONDS = 15.0
_PATIENCE_SECONDS = 1.0
#: Redis is asked only when no part has heard from it for so long.
_PING_SECONDS = 10.0
#: Celery's own loop may stand still this long although Redis is there; then it hangs.
_CELERY_SILENCE_SECONDS = 60.0
#: What /health says while Redis is at its limit of memory.
_FULL = (
    "Redis is full: it refuses new messages, and what waits is worked off. "
    "Wait until the queue is shorter, or raise its limit (maxmemory)."
)


@dataclass
class Part:
    """One of the parts that `wearon-worker run` supervises."""

    seen: float = field(default_factory=time.monotonic)
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self.seen


@dataclass
class Health:
    """Written by the supervisor and its parts, read by /health and /ready."""

    state: Literal["starting", "ready", "draining"] = "starting"
    model_loaded: bool = False
    redis_connected: bool = False
    #: Why it is not connected, as a sentence; empty: not known yet.
    redis_problem: str = ""
    #: When Redis last answered a part; 0: a part has seen Redis fail since.
    redis_seen: float = 0.0
    #: Redis is at its limit of memory.
    redis_full: bool = False
    database_connected: bool = False
    #: Why nothing is taken from the queue although the worker runs; empty when it is.
    intake_paused: str = ""
    parts: dict[str, Part] = field(default_factory=dict)

    def beat(self, part: str, **detail: Any) -> None:
        """`part` is alive; `detail` is shown in /health."""
        self.parts[part] = Part(detail=detail)

    def progress(self, part: str) -> None:
        """A long round of `part` goes on. Before the first beat it belongs to the start, which may take longer."""
        if part in self.parts:
            self.beat(part)

    def hung(self) -> list[str]:
        """Parts without a heartbeat for longer than HEARTBEAT_TIMEOUT_SECONDS."""
        return [name for name, part in self.parts.items() if part.silent_seconds > HEARTBEAT_TIMEOUT_SECONDS]

    def ready(self) -> bool:
        """True while new work may be sent here."""
        return self.state == "ready" and self.model_loaded and self.redis_connected

    def report(self) -> dict[str, Any]:
        """The body of GET /health (docs/contracts.md, Size API)."""
        checks = self.model_loaded and self.redis_connected and self.database_connected
        fine = checks and self.state == "ready" and not (self.intake_paused or self.redis_full or self.hung())
        return {
            "status": "ok" if fine else "degraded",
            "state": self.state,
            "model_loaded": self.model_loaded,
            "redis_connected": self.redis_connected,
            "redis_problem": self.redis_problem or None,
            "redis_full": _FULL if self.redis_full else None,
            "database_connected": self.database_connected,
            "intake_paused": self.intake_paused or None,
            "parts": {
                name: {"silent_seconds": round(part.silent_seconds, 1), **part.detail}
                for name, part in self.parts.items()
            },
        }


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
            return redis_client.problem(error)
        return ""
