"""Claimed messages on which no worker works, though they left the queue."""

import asyncio

from worker.generation.queue.claims import Claims
from worker.generation.queue.envelope import correlation, identify
from worker.generation.sessions.ownership import Ownership
from worker.logs import get_logger

log = get_logger(__name__)

#: What was forwarded is worked on within this.
_START_SECONDS = 0.5


class Unstarted:
    """Watches the claimed list of one instance."""

    def __init__(self, claims: Claims, ownership: Ownership) -> None:
        self._claims = claims
        self._ownership = ownership
        self._before: set[bytes] = set()
        #: Something may be claimed: a message was taken, or an answer of Redis may have been lost.
        self.doubtful = True

    async def lost(self, running: int) -> set[bytes]:
        """Messages that neither wait in Celery nor are worked on, twice in a row.

        A message gets there when an answer of Redis was lost, or Redis itself lost the last second of its memory.
        The messages themselves are read only when there are more or fewer of them than running generations.
        """
        claimed = await self._claims.count() if self.doubtful else 0
        self.doubtful = claimed > 0
        idle: set[bytes] = set()
        if claimed != running and not await self._claims.count_unstarted():
            idle = set(await self._idle())
        lost, self._before = idle & self._before, idle - self._before
        return lost

    async def requeue(self) -> None:
        """Requeue what is not worked on, twice in a row; for the drain, once the consumer has ended.

        A generation that is just starting has no lease yet, and the claim of an ended one outlives its lease.
        """
        before = set(await self._idle())
        await asyncio.sleep(_START_SECONDS)
        for payload in await self._idle():
            if payload in before and await self._claims.requeue(payload):
                log.info("message_given_back", **correlation(payload))

    async def _idle(self) -> list[bytes]:
        """Claimed messages whose sessions no worker has, newest first."""
        return [payload for payload in await self._claims.held() if not await self._is_held(payload)]

    async def _is_held(self, payload: bytes) -> bool:
        known = identify(payload)
        return bool(known and await self._ownership.is_held(known.id))
