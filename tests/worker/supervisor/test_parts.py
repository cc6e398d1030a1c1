"""The end of the parts of the container's process."""

import asyncio
from contextlib import suppress

from worker.supervisor.parts import cancel


async def _deaf() -> None:
    """Takes the first cancellation for something else, as a library may."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    await asyncio.sleep(60)


async def test_a_part_that_misses_its_cancellation_is_cancelled_again() -> None:
    tasks = {asyncio.create_task(_deaf()), asyncio.create_task(asyncio.sleep(60))}
    await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await cancel(tasks)

    assert all(task.cancelled() for task in tasks)


async def test_nothing_to_cancel_is_fine() -> None:
    await cancel(set())
