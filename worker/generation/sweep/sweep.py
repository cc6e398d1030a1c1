"""Work that no worker does any more: messages of dead instances are requeued, stuck sessions failed and refunded.

One instance at a time sweeps.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from redis.asyncio import Redis

from worker.errors import WorkerLost
from worker.generation import metrics, odd
from worker.generation.channel import SessionRef
from worker.generation.outcome import Outcome
from worker.generation.queue.claims import Claims, Instance
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.queue.envelope import correlation, identify
from worker.generation.region import Region
from worker.generation.sessions.marks import MAX_STARTS
from worker.generation.sessions.ownership import Ownership
from worker.generation.sessions.settlement import Settlement
from worker.generation.sweep.lock import SweepLock
from worker.generation.sweep.stuck import Stuck, StuckSession
from worker.logs import bind, get_logger

log = get_logger(__name__)

#: With Redis and the database away for longer the round ends: a sweeper that shows no progress ends the container.
_END_SECONDS = 20.0
#: This many dead workers, and a message is not tried again.
MAX_DEATHS = MAX_STARTS
#: Messages of a dead instance in memory at once.
_PAGE = 10


@dataclass(eq=False, repr=False)
class Sweeper:
    """`sweep` is safe to call on every instance at any time."""

    redis: Redis
    claims: Claims
    settlement: Settlement
    dead_letters: DeadLetters
    stuck: Stuck
    on_progress: Callable[[], None]
    region: Region | None = None

    def __post_init__(self) -> None:
        self._ownership = Ownership(self.redis)
        self._lock = SweepLock(self.redis, self.claims)

    async def sweep(self) -> int:
        """Sweep once, unless another instance sweeps now. Return the number of sessions that were ended."""
        others = await self.claims.others()
        if self.region:
            await self.region.watch()
        # The lock only saves work: an instance that is alone saves the lock.
        async with self._lock.held() if others else nullcontext(True) as locked:
            if not locked:
                return 0
            started = time.monotonic()
            for instance in others:
                if not instance.alive:
                    await self._clear_away(instance)
            if self.region:
                await self.region.report(empty=await self.claims.are_all_empty())
            stuck = await self.stuck.find()
            for found in stuck:
                with odd.alone("session", found.session):
                    await self._end(found)
            log.debug("swept", ended=len(stuck), seconds=round(time.monotonic() - started, 3))
            return len(stuck)

    async def _clear_away(self, instance: Instance) -> None:
        """Requeue the messages of a dead instance in their order."""
        claims, left = self.claims.of(instance.name), 0
        # Newest first, so that the oldest ends up nearest to the taking end.
        while page := await claims.page(left, left + _PAGE - 1):
            for payload in page:
                left += 1
                with bind(**correlation(payload)), odd.alone("message", correlation(payload)):
                    left -= await self._take_over(claims, payload)
        if not left:
            await claims.leave()
            log.info("instance_cleared_away", dead_instance=instance.name)

    async def _take_over(self, claims: Claims, payload: bytes) -> bool:
        """Take the message from the dead instance's list. Return False while another worker has its session."""
        session = identify(payload)
        if session and await self._ownership.is_held(session.id):
            return False  # the next round looks again
        self.on_progress()
        if session and await self.settlement.is_waiting(session.id):
            await claims.finish(payload)  # its end is known and only has to be written
        elif session and (deaths := await self._count_death(session, claims.instance)) >= MAX_DEATHS:
            detail = f"{deaths} workers died with this message"
            await self.dead_letters.add(payload, "poison", detail)
            metrics.REFUSED.labels("poison").inc()
            log.error("message_refused", reason="poison", detail=detail)
            await self._ownership.disown(session.id)
            await self._settle(Outcome.failed(session, WorkerLost(detail)))
            await claims.finish(payload)
        elif await claims.requeue(payload):
            metrics.REQUEUED_MESSAGES.inc()
            log.warning("message_put_back", dead_instance=claims.instance)
        return True

    async def _count_death(self, session: SessionRef, instance: str) -> int:
        """Count a death against the message, but not of a paid session, which only has to be ended."""
        deaths = await self._ownership.count_death(session.id, instance)
        return deaths if deaths != MAX_DEATHS or await self._ownership.is_unpaid(session.id) else 0

    async def _end(self, found: StuckSession) -> None:
        self.on_progress()
        session, error = found.session, found.error
        with bind(session_id=str(session.id), channel=session.channel):
            metrics.STUCK.labels(session.channel, error.reason).inc()
            log.warning("stuck_session_found", status=session.status, reason=error.reason, detail=str(error))
            await self._ownership.disown(session.id)
            await self._settle(Outcome.failed(session, error))

    async def _settle(self, outcome: Outcome) -> None:
        async with asyncio.timeout(_END_SECONDS):
            await self.settlement.settle(outcome)
