"""The parts of a process that have to run all the time: named asyncio tasks, none of which may end by itself."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from worker.errors import PartEnded, WorkerError
from worker.logs import get_logger

log = get_logger(__name__)

_CANCEL_SECONDS = 1.0


class Parts:
    """Starts parts, watches them, and cancels them."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a part."""
        self._tasks[name] = asyncio.create_task(work, name=name)
        return self._tasks[name]

    async def watch(self, starting: asyncio.Task[None], stop: asyncio.Task[Any]) -> None:
        """Return once `stop` is done. Raise PartEnded for a part that ended, and the error of `starting`."""
        while True:
            watched = {*self._tasks.values(), stop} | ({starting} if not starting.done() else set())
            await asyncio.wait(watched, return_when="FIRST_COMPLETED")
            if stop.done():
                return
            if starting.done():
                starting.result()
            for part in self._tasks.values():
                if part.done():
                    raise PartEnded(f"{part.get_name()} ended: {_reason(part)}")

    async def cancel(self, *names: str) -> None:
        """Cancel these parts."""
        await cancel({self._tasks.pop(name) for name in names if name in self._tasks})

    async def cancel_all(self, but: str = "") -> None:
        """Cancel every part except one."""
        await self.cancel(*(name for name in self._tasks if name != but))


async def cancel(tasks: set[asyncio.Task[Any]]) -> None:
    """Return when all have ended. Cancel again what goes on: a library may take a cancellation for something else."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)


def _reason(part: asyncio.Task[Any]) -> str:
    error = part.exception()
    if error is None:
        return str(part.result() or "it returned")
    if not isinstance(error, WorkerError):
        log.error("part_crashed", part=part.get_name(), exc_info=error)
    return str(error) or type(error).__name__
