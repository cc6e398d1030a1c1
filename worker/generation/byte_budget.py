"""Memory that all generations of a process hold together: a budget of bytes, given out in order of arrival.

A generation reserves the most that its pictures can need at once, so that two generations never wait for each other,
and releases what it turns out not to need. Figures: docs/performance.md.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from worker import memory
from worker.generation import metrics
from worker.settings import Settings

#: Of the container's memory, when the setting does not say: the rest is for the two processes and for decoding.
_SHARE = 0.4
_LEAST = 64_000_000


def limit(settings: Settings) -> int:
    """The budget that the settings ask for."""
    return settings.generation_memory_bytes or max(_LEAST, int(_SHARE * memory.limit_bytes()))


class Held:
    """The bytes of one generation, in parts: one for each picture."""

    def __init__(self, budget: "ByteBudget", parts: list[int]) -> None:
        self._budget = budget
        self._parts = parts

    def change(self, part: int, count: int) -> None:
        """Hold so many bytes in this part from now on; more than before only for bytes that are in memory already."""
        more, self._parts[part] = count - self._parts[part], count
        self._budget.add(more)

    def replace(self, *parts: int) -> None:
        """Replace the parts that the generation holds."""
        more, self._parts = sum(parts) - sum(self._parts), list(parts)
        self._budget.add(more)


class ByteBudget:
    """First come, first served: a message with many pictures is not overtaken by smaller ones."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        metrics.BYTES_LIMIT.set(limit)
        metrics.BYTES_HELD.set_function(lambda: self._held)
        metrics.BYTES_WAITING.set_function(lambda: len(self._waiting))

    @asynccontextmanager
    async def reserve(self, parts: int, bytes_each: int) -> AsyncIterator[Held]:
        """Wait for room for so many parts; a generation that needs more than there is gets all of it."""
        bytes_each = min(bytes_each, self._limit // parts)
        await self._wait(parts * bytes_each)
        held = Held(self, [bytes_each] * parts)
        try:
            yield held
        finally:
            held.replace()

    def add(self, count: int) -> None:
        """Count bytes that a generation holds or releases."""
        self._held += count
        while self._waiting and self._fits(self._waiting[0][0]):
            wanted, granted = self._waiting.popleft()
            if not granted.cancelled():
                self._held += wanted
                granted.set_result(None)

    async def _wait(self, count: int) -> None:
        if not self._waiting and self._fits(count):
            self._held += count
            return
        waiting = count, asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await waiting[1]
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiting.remove(waiting)  # it is in the way of those behind
            self.add(0 if waiting[1].cancelled() else -count)  # granted in the same moment
            raise

    def _fits(self, count: int) -> bool:
        # Bytes that came unexpectedly may exceed the limit; a single message must go on all the same.
        return self._held <= 0 or self._held + count <= self._limit
