"""The steps between a started session and its outcome: fetch, resize, edit, upload, sign."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from worker.errors import EditFailed, ImageError, WorkerLost
from worker.generation import metrics
from worker.generation.openai import metrics as openai_metrics
from worker.generation.openai.edit import Edit
from worker.generation.outcome import Outcome
from worker.generation.pauses.pauses import STORAGE
from worker.generation.pipeline.delivery import Delivery
from worker.generation.pipeline.paid_call import PaidCall
from worker.generation.pipeline.starts import Starts
from worker.generation.run import Run
from worker.generation.sessions.marks import Receipt
from worker.logs import get_logger
from worker.photos.decode import normalise, to_jpeg
from worker.photos.fetcher import ImageFetcher

T = TypeVar("T")
log = get_logger(__name__)

#: Pictures in memory as they were sent (up to 10 MiB each) in one process; every other picture waits its turn.
DOWNLOADS = 32
#: A picture in memory while OpenAI works: itself, and its place in the request's body.
_COPIES = 2


@dataclass(eq=False, repr=False)
class Steps:
    """Makes the picture of a session that is "processing"; at most `concurrency` paid calls at once."""

    fetcher: ImageFetcher
    paid_call: PaidCall
    starts: Starts
    delivery: Delivery
    concurrency: int
    threads: Executor

    def __post_init__(self) -> None:
        self._downloads = asyncio.Semaphore(DOWNLOADS)
        self._calls = asyncio.Semaphore(self.concurrency)

    async def make(self, run: Run) -> Outcome:
        """The picture, paid for, stored and signed; raises GenerationError when there will be none."""
        message = run.message
        edit = await self._edit(run, await all_of(self._picture(run, *it) for it in enumerate(message.image_urls)))
        run.hold(len(edit.image))
        receipt = Receipt(
            input_tokens=edit.input_tokens,
            output_tokens=edit.output_tokens,
            cost_usd=edit.cost_usd,
            model=edit.model,
            prompt_version=str(run.facts["prompt_version"]),
            processing_time_ms=run.elapsed_ms,
        )
        await self.starts.note_paid(run, receipt)
        await self.paid_call.count(run, edit)
        jpeg = await self._verified(edit)
        url = await self.delivery.deliver(run, jpeg)
        return _completed(run, url, receipt, run.elapsed_ms)

    async def rescue(self, run: Run) -> Outcome:
        """The outcome of a session whose worker vanished after its call to OpenAI, with the picture that it has stored.

        Raises WorkerLost if there is no such picture.
        """
        receipt = run.lease.mark.receipt
        if receipt.prompt_version:  # the settings of that worker may have been others
            run.facts["prompt_version"] = receipt.prompt_version
        if receipt.model and receipt.cost_usd is not None:  # also when the picture is lost
            run.facts |= {"model": receipt.model, "cost_usd": float(receipt.cost_usd)}
        url = await self.delivery.find(run)
        if url is None:
            raise WorkerLost("its worker vanished in the middle of the call")
        log.warning("picture_rescued")
        metrics.RESCUED.inc()
        return _completed(run, url, receipt, receipt.processing_time_ms or run.elapsed_ms)

    async def _picture(self, run: Run, number: int, url: str) -> bytes:
        """Fetched and resized at once, so that only a few originals are in memory at any time."""
        async with self._downloads:
            with run.step("fetch"):
                data = await self.fetcher.fetch(url, partial(run.hold_picture, number))
            run.hold_picture(number, len(data))
            openai_metrics.image("in", len(data))
            with run.step("resize"):
                picture = await self._in_thread(normalise, data)
            run.hold_picture(number, _COPIES * len(picture))
            return picture

    async def _edit(self, run: Run, pictures: list[bytes]) -> Edit:
        async with self._calls:
            if run.probe == STORAGE:
                await self.delivery.check(run)
            return await self.paid_call.edit(run, pictures)

    async def _verified(self, edit: Edit) -> bytes:
        try:
            return await self._in_thread(to_jpeg, edit.image)
        except ImageError as error:
            raise EditFailed(f"OpenAI's picture is no picture: {error}") from error

    async def _in_thread(self, function: Callable[[bytes], T], data: bytes) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, data)


def _completed(run: Run, url: str, receipt: Receipt, processing_time_ms: int) -> Outcome:
    return Outcome(
        channel=run.message.channel,
        session_id=run.message.session_id,
        kind="completed",
        processing_time_ms=processing_time_ms,
        image_url=url,
        input_tokens=receipt.input_tokens,
        output_tokens=receipt.output_tokens,
        cost_usd=receipt.cost_usd,
        facts=run.facts | ({"model": receipt.model} if receipt.model else {}),
        created_at=run.message.created_at.timestamp(),
    )


async def all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error ends the other calls."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
