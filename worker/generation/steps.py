"""The steps between a started session and its outcome: fetch, resize, edit, upload, sign."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from worker.errors import EditFailed, ImageError, RateLimited
from worker.generation import metrics as generations
from worker.generation import openai_metrics as image_api
from worker.generation.leases import Lease, Leases
from worker.generation.message import GenerationMessage
from worker.generation.openai_images import Edit, ImageEditor
from worker.generation.prompt import DEFAULT_PROMPT
from worker.generation.retrying import until_available
from worker.generation.sessions import Sessions
from worker.generation.settlement import Outcome
from worker.generation.storage import Storage, result_path
from worker.logs import get_logger
from worker.photos.decode import normalise, to_jpeg
from worker.photos.fetcher import ImageFetcher
from worker.settings import Settings

log = get_logger(__name__)
T = TypeVar("T")

#: Pictures in memory as they were sent (up to 10 MiB each) in one process; everything else waits its turn.
DOWNLOADS = 32


class SessionTaken(Exception):  # no failure: there is simply nothing left to do
    """Somebody else ended or works on the session."""


@dataclass
class Run:
    """What is known about one generation while it runs."""

    message: GenerationMessage
    lease: Lease
    started: float = field(default_factory=time.monotonic)
    #: The session is "processing" because of us.
    begun: bool = False
    #: ... or may be: the answer to our start was lost.
    begun_perhaps: bool = False
    #: OpenAI may have been paid: the session is never given back any more.
    called_openai: bool = False
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self.started) * 1000)

    async def timed(self, step: str, work: Awaitable[T]) -> T:
        """The work's result; how long it took goes into the log at the end."""
        begun = time.monotonic()
        try:
            return await work
        finally:
            self.steps[step] = round(time.monotonic() - begun, 3)


class Steps:
    """Makes the picture of a session that is "processing"."""

    def __init__(
        self,
        settings: Settings,
        *,
        leases: Leases,
        sessions: Sessions,
        fetcher: ImageFetcher,
        editor: ImageEditor,
        storage: Storage,
        image_threads: Executor,
    ) -> None:
        self._settings = settings
        self._leases = leases
        self._sessions = sessions
        self._fetcher = fetcher
        self._editor = editor
        self._storage = storage
        self._image_threads = image_threads
        self._downloads = asyncio.Semaphore(DOWNLOADS)
        self._calls = asyncio.Semaphore(settings.worker_concurrency)

    async def make(self, run: Run) -> Outcome:
        """The picture, paid for, stored and signed; raises GenerationError when there will be none."""
        message = run.message
        pictures = await run.timed("pictures", all_of(self._picture(url) for url in message.image_urls))
        async with self._calls:
            edit = await run.timed("edit", self._edit(run, pictures))
        del pictures
        image_api.spent(message.channel, edit.model, edit.input_tokens, edit.output_tokens, edit.cost_usd)
        jpeg = await self._verified(edit)
        path = result_path(message.channel, message.owner_id, message.session_id)
        with generations.step("upload"):
            await run.timed("upload", until_available(lambda: self._storage.upload(path, jpeg)))
        image_api.image("out", len(jpeg))
        with generations.step("sign"):
            url = await run.timed("sign", until_available(lambda: self._storage.sign(path)))
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

    async def _picture(self, url: str) -> bytes:
        """Fetched and resized at once, so that only a few originals are in memory at any time."""
        async with self._downloads:
            with generations.step("fetch"):
                data = await self._fetcher.fetch(url)
            image_api.image("in", len(data))
            with generations.step("resize"):
                return await self._in_thread(normalise, data)

    async def _edit(self, run: Run, pictures: list[bytes]) -> Edit:
        """The paid call; after a first 429 the session is queued again for a while and the call made once more."""
        prompt = run.message.prompt.strip() or DEFAULT_PROMPT
        calling = partial(self._calling, run)
        try:
            return await self._editor.edit(pictures, prompt, calling)
        except RateLimited as error:
            run.called_openai = False
            wait = max(self._settings.rate_limit_retry_seconds, error.retry_after)
            wait = min(wait, self._settings.rate_limit_retry_max_seconds)
            generations.REQUEUED.labels(error.reason).inc()
            log.warning("generation_requeued", reason=error.reason, wait_seconds=wait, detail=str(error))
        await until_available(lambda: self._sessions.requeue(run.message.channel, run.message.session_id))
        await asyncio.sleep(wait)
        await self._restart(run)
        return await self._editor.edit(pictures, prompt, calling)

    async def _calling(self, run: Run) -> None:
        """The request to OpenAI goes out, unless this process stood still so long that another may have made it."""
        if not await until_available(partial(self._leases.keep, run.lease)):
            log.warning("message_dropped", why="another worker took the session over")
            raise SessionTaken
        run.called_openai = True

    async def _restart(self, run: Run) -> None:
        message = run.message
        change = await until_available(
            lambda: self._sessions.start(message.channel, message.session_id, message.owner_id)
        )
        # Not changed but processing: our own call, whose answer was lost.
        if change.status != "processing":
            log.info("message_dropped", why="ended while it waited for its retry", status=change.status)
            raise SessionTaken

    async def _verified(self, edit: Edit) -> bytes:
        try:
            return await self._in_thread(to_jpeg, edit.image)
        except ImageError as error:
            raise EditFailed(f"OpenAI's picture is no picture: {error}") from error

    async def _in_thread(self, function: Callable[[bytes], T], data: bytes) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._image_threads, function, data)


async def all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error ends the other calls."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
