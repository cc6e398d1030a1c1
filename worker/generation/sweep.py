"""What nobody works on any more: messages of dead instances go back, stuck sessions are failed and refunded.

Stuck means that nobody accounts for the session: no live lease, no outcome that waits to be written and, before it was
begun, no message in the queue or on a claimed list. One instance at a time sweeps.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from redis.asyncio import Redis

from worker.errors import GenerationError, Orphaned, WorkerLost
from worker.generation import keys, metrics
from worker.generation.claims import Claims, Instance
from worker.generation.dead_letters import DeadLetters
from worker.generation.message import correlation, identify
from worker.generation.outcome import Outcome
from worker.generation.sessions import OpenSession, Sessions
from worker.generation.settlement import Settlement
from worker.logs import bind, get_logger

log = get_logger(__name__)

_LOCK_SECONDS = 60
#: This many dead workers, and a message is not tried again.
MAX_DEATHS = 2
_DEATHS_SECONDS = 24 * 3600

#: The lock of an instance that is dead or stands still holds nobody up.
_LOCK = """
local holder = redis.call('GET', KEYS[1])
if holder and redis.call('EXISTS', ARGV[3] .. holder) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Sweeper:
    """`sweep` is safe to call on every instance at any time."""

    def __init__(
        self,
        *,
        claims: Claims,
        sessions: Sessions,
        settlement: Settlement,
        dead_letters: DeadLetters,
        orphan_grace_seconds: float,
        on_progress: Callable[[], None],
    ) -> None:
        self._claims = claims
        self._redis: Redis = claims.redis
        self._sessions = sessions
        self._settlement = settlement
        self._dead_letters = dead_letters
        self._grace = timedelta(seconds=orphan_grace_seconds)
        self._on_progress = on_progress
        self._lock = self._redis.register_script(_LOCK)
        self._unlock = self._redis.register_script(_UNLOCK)

    async def sweep(self) -> int:
        """One round, unless another instance is at it; -> sessions that were ended."""
        mine = self._claims.instance
        if not await self._lock(keys=[keys.SWEEP_LOCK], args=[mine, _LOCK_SECONDS, keys.alive("")]):
            return 0
        begun = time.monotonic()
        try:
            for instance in await self._claims.instances():
                if not instance.alive and instance.name != mine:
                    await self._clear_away(instance)
            ended = await self._end_stuck()
        finally:
            await self._unlock(keys=[keys.SWEEP_LOCK], args=[mine])
        log.debug("swept", ended=ended, seconds=round(time.monotonic() - begun, 3))
        return ended

    async def _clear_away(self, instance: Instance) -> None:
        """Messages of a dead instance go back into the queue in their order."""
        claims = Claims(self._redis, instance.name, lease_seconds=1)
        # Newest first, so that the oldest ends up nearest to the taking end.
        for payload in await claims.held():
            with bind(**correlation(payload)):
                await self._put_back(claims, payload)
        if await claims.count() == 0:
            await self._claims.forget(instance.name)
            log.info("instance_cleared_away", dead_instance=instance.name)

    async def _put_back(self, claims: Claims, payload: bytes) -> None:
        known = identify(payload)
        if known and await self._redis.exists(keys.lease(known.id)):
            return  # somebody works on it; the next round looks again
        self._on_progress()
        if known and await self._settlement.is_waiting(known.id):
            await claims.finish(payload)  # its end is known and only has to be written
        elif known and await self._count_death(known.id, claims.instance) >= MAX_DEATHS:
            detail = f"{MAX_DEATHS} workers died with this message"
            await self._dead_letters.add(payload, "poison", detail)
            metrics.REFUSED.labels("poison").inc()
            log.error("message_refused", reason="poison", detail=detail)
            await self._disown(known.id)
            await self._settlement.settle(Outcome.failed(known, WorkerLost(detail)))
            await claims.finish(payload)
        elif await claims.give_back(payload):
            metrics.PUT_BACK.inc()
            log.warning("message_put_back", dead_instance=claims.instance)

    async def _count_death(self, session_id: UUID, instance: str) -> int:
        """How many instances died with the session's message, this one included; counted by name, so once each."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.sadd(keys.deaths(session_id), instance)
            pipe.expire(keys.deaths(session_id), _DEATHS_SECONDS)
            pipe.scard(keys.deaths(session_id))
            _, _, deaths = await pipe.execute()
        return int(deaths)

    async def _end_stuck(self) -> int:
        stuck = await self._stuck()
        if stuck:
            # Looked at twice: one that is handed back between two of our questions looks stuck for a moment.
            stuck &= await self._stuck()
        for session in stuck:
            begun = session.status == "processing"
            await self._end(session, WorkerLost("no worker has it") if begun else Orphaned("no message for it"))
        return len(stuck)

    async def _stuck(self) -> set[OpenSession]:
        # The database first: whatever moves on while we look then counts as accounted for, or has ended by itself.
        before = datetime.now(UTC) - self._grace
        candidates = await self._sessions.open(["processing"], self._on_progress)
        candidates += await self._sessions.open(["queued", "pending"], self._on_progress, before)
        if not candidates:
            return set()
        queued = await self._queued_sessions()
        unqueued = [it for it in candidates if it.status == "processing" or it.id not in queued]
        return {session for session in unqueued if not await self._accounted(session)}

    async def _queued_sessions(self) -> set[UUID]:
        found = set()
        for number, payload in enumerate(await self._claims.accounted()):
            if known := identify(payload):
                found.add(known.id)
            if number % 500 == 499:
                await asyncio.sleep(0)  # a long queue must not keep /health waiting
        return found

    async def _accounted(self, session: OpenSession) -> bool:
        self._on_progress()
        leased = await self._redis.exists(keys.lease(session.id))
        return bool(leased) or await self._settlement.is_waiting(session.id)

    async def _end(self, session: OpenSession, error: GenerationError) -> None:
        self._on_progress()
        with bind(session_id=str(session.id), channel=session.channel):
            metrics.STUCK.labels(session.channel, error.reason).inc()
            log.warning("stuck_session_found", status=session.status, reason=error.reason, detail=str(error))
            await self._disown(session.id)
            await self._settlement.settle(Outcome.failed(session, error))

    async def _disown(self, session_id: UUID) -> None:
        """Should its worker only have stood still, it finds its lease lost and makes no call any more."""
        await self._redis.delete(keys.begun(session_id))
