"""Calls to OpenAI that no other generation needs: bulk makes no others."""

import asyncio
from contextvars import ContextVar

from worker.errors import Preempted
from worker.generation.limiter import Limiter
from worker.generation.retrying import until_available
from worker.settings import Settings

#: True in the asyncio task of a bulk generation.
BULK: ContextVar[bool] = ContextVar("bulk", default=False)
_LOOK_SECONDS = 1.0


class SpareCalls:
    """Lets bulk have its share of the account's calls, and only while no other call waits."""

    def __init__(self, limiter: Limiter, settings: Settings) -> None:
        self._limiter = limiter
        self._most = max(1, int(settings.openai_requests_per_minute * settings.bulk_share))
        # Far from the deadline of a generation: the call itself needs time, too.
        self._patience_seconds = settings.generation_timeout_seconds / 3
        self._gate, self._door = asyncio.Lock(), asyncio.Lock()

    async def wait(self) -> None:
        """Wait until bulk may make a call; takes no place."""
        async with self._gate:
            while sum(await until_available(self._limiter.usage)) >= self._most:  # noqa: ASYNC110  # of all instances
                await asyncio.sleep(_LOOK_SECONDS)

    async def acquire(self) -> float:
        """Do what the limiter does, for bulk one at a time and without a reservation; raises Preempted."""
        if not BULK.get():
            return await self._limiter.acquire()
        try:
            async with asyncio.timeout(self._patience_seconds), self._door:
                return await self._limiter.acquire(self._most)
        except TimeoutError:
            raise Preempted("preempted", f"no call for bulk within {self._patience_seconds:g} s") from None
