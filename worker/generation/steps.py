"""The steps between a started session and its outcome: fetch, resize, edit, upload, sign."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor
from typing import Any, TypeVar

from worker.errors import EditFailed, ImageError
from worker.generation import openai_metrics
from worker.generation.delivery import Delivery
from worker.generation.openai_request import Edit
from worker.generation.outcome import Outcome
from worker.generation.paid_call import PaidCall
from worker.generation.pauses import STORAGE
from worker.generation.run import Run
from worker.photos.decode import normalise, to_jpeg
from worker.photos.fetcher import ImageFetcher

T = TypeVar("T")

#: Pictures in memory as they were sent (up to 10 MiB each) in one process; every other picture waits its turn.
DOWNLOADS = 32


class Steps:
    """Makes the picture of a session that is "processing"; at most `concurrency` paid calls at once."""

    def __init__(
        self, *, fetcher: ImageFetcher, paid_call: PaidCall, delivery: Delivery, concurrency: int, threads: Executor
    ) -> None:
        self._fetcher = fetcher
        self._paid_call = paid_call
        self._delivery = delivery
        self._threads = threads
        self._downloads = asyncio.Semaphore(DOWNLOADS)
        self._calls = asyncio.Semaphore(concurrency)

    async def make(self, run: Run) -> Outcome:
        """The picture, paid for, stored and signed; raises GenerationError when there will be none."""
        message = run.message
        edit = await self._edit(run, await all_of(self._picture(run, url) for url in message.image_urls))
        openai_metrics.spent(message.channel, edit.model, edit.input_tokens, edit.output_tokens, edit.cost_usd)
        jpeg = await self._verified(edit)
        url = await self._delivery.deliver(run, jpeg)
        return Outcome(
            channel=message.channel,
            session_id=message.session_id,
            kind="completed",
            processing_time_ms=run.elapsed_ms,
            image_url=url,
            input_tokens=edit.input_tokens,
            output_tokens=edit.output_tokens,
            cost_usd=edit.cost_usd,
            created_at=message.created_at.timestamp(),
        )

    async def _picture(self, run: Run, url: str) -> bytes:
        """Fetched and resized at once, so that only a few originals are in memory at any time."""
        async with self._downloads:
            with run.step("fetch"):
                data = await self._fetcher.fetch(url)
            openai_metrics.image("in", len(data))
            with run.step("resize"):
                return await self._in_thread(normalise, data)

    async def _edit(self, run: Run, pictures: list[bytes]) -> Edit:
        async with self._calls:
            if run.probe == STORAGE:
                await self._delivery.check(run)
            return await self._paid_call.edit(run, pictures)

    async def _verified(self, edit: Edit) -> bytes:
        try:
            return await self._in_thread(to_jpeg, edit.image)
        except ImageError as error:
            raise EditFailed(f"OpenAI's picture is no picture: {error}") from error

    async def _in_thread(self, function: Callable[[bytes], T], data: bytes) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, data)


async def all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error ends the other calls."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
