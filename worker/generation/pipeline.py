"""One generation from the claimed message to the settled session: start, fetch, resize, edit, upload, sign, settle."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from worker import images
from worker.errors import (
    DeadlineExceeded,
    EditFailed,
    GenerationError,
    ImageError,
    InvalidMessage,
    MessageRefused,
    QuotaExhausted,
    RateLimited,
    ServiceUnavailable,
    WorkerLost,
)
from worker.fetch import ImageFetcher
from worker.generation import settlement
from worker.generation.dead_letters import DeadLetters
from worker.generation.intake import Intake
from worker.generation.leases import Lease, Leases
from worker.generation.message import GenerationMessage
from worker.generation.openai_images import Edit, ImageEditor
from worker.generation.prompt import DEFAULT_PROMPT
from worker.generation.retrying import until_available
from worker.generation.sessions import Change, Sessions
from worker.generation.settlement import Outcome, Settlement
from worker.generation.storage import Storage, result_path
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)
T = TypeVar("T")

#: Pictures in memory as they were sent (up to 10 MB each) in one process; everything else waits its turn.
_DOWNLOADS = 32


class End(Enum):
    """What becomes of the message."""

    FINISHED = "finished"
    GIVE_BACK = "give_back"


class SessionTaken(Exception):  # no failure: there is simply nothing left to do
    """Somebody else ended or works on the session."""


@dataclass
class _Run:
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

    def calling(self) -> None:
        """The request to OpenAI goes out."""
        self.called_openai = True


class Pipeline:
    """Everything a generation needs, built once per process."""

    def __init__(
        self,
        settings: Settings,
        *,
        leases: Leases,
        sessions: Sessions,
        fetcher: ImageFetcher,
        editor: ImageEditor,
        storage: Storage,
        settlement: Settlement,
        intake: Intake,
        dead_letters: DeadLetters,
        image_threads: Executor,
    ) -> None:
        self._settings = settings
        self._leases = leases
        self._sessions = sessions
        self._fetcher = fetcher
        self._editor = editor
        self._storage = storage
        self._settlement = settlement
        self._intake = intake
        self._dead_letters = dead_letters
        self._image_threads = image_threads
        self._downloads = asyncio.Semaphore(_DOWNLOADS)
        self._interruptible: set[asyncio.Task[Outcome]] = set()

    async def generate(self, message: GenerationMessage, payload: bytes) -> End:
        """Work on the session unless somebody else does; returns what becomes of the message."""
        lease = await self._leases.acquire(message.session_id)
        if lease is None:
            log.info("duplicate_dropped", why="another worker has the session")
            return End.FINISHED
        run = _Run(message, lease)
        try:
            return await self._generate(run, payload)
        finally:
            await self._leases.release(lease)

    def release(self) -> None:
        """Let go of everything that runs: not yet paid for goes back to the queue, the rest is failed and refunded."""
        for task in self._interruptible:
            task.cancel()

    async def _generate(self, run: _Run, payload: bytes) -> End:
        work = asyncio.create_task(self._within_deadline(run))
        self._interruptible.add(work)
        try:
            outcome = await work
        except SessionTaken:
            return End.FINISHED
        except QuotaExhausted as error:
            log.error("openai_quota_exhausted", detail=str(error), pause_seconds=self._settings.quota_pause_seconds)
            await until_available(partial(self._intake.pause, error.reason))
            return await self._hand_back(run)
        except InvalidMessage as error:
            log.error("message_refused", reason=error.reason, detail=error.detail)
            await until_available(partial(self._dead_letters.add, payload, error.reason, error.detail))
            outcome = self._failed(run, MessageRefused(str(error)))
        except GenerationError as error:
            log.warning("generation_failing", reason=error.reason, detail=str(error))
            outcome = self._failed(run, error)
        except asyncio.CancelledError:
            if not run.called_openai:
                log.info("generation_released")
                return await self._hand_back(run)
            outcome = self._failed(run, WorkerLost("the worker was told to stop in the middle of the call"))
        except Exception as error:
            if not run.begun:
                # The session is untouched and its credit is safe: it will be tried again.
                log.warning("generation_not_started", error=f"{type(error).__name__}: {error}")
                return await self._hand_back(run)
            log.exception("generation_crashed")
            outcome = self._failed(run, GenerationError(type(error).__name__))
        finally:
            self._interruptible.discard(work)
        await self._settlement.settle(outcome)
        log.info("generation_ended", outcome=outcome.kind, seconds=run.elapsed_ms / 1000, steps=run.steps)
        return End.FINISHED

    async def _within_deadline(self, run: _Run) -> Outcome:
        limit = self._settings.generation_timeout_seconds
        try:
            async with asyncio.timeout(limit) as deadline:
                await self._start(run)
                return await self._make(run)
        except TimeoutError:
            if not deadline.expired() or not run.begun:
                raise
            raise DeadlineExceeded(f"generation took longer than {limit:g} s") from None

    async def _start(self, run: _Run) -> None:
        """queued -> processing; raises when that is not for us to do."""
        message = run.message

        async def start() -> Change:
            try:
                return await self._sessions.start(message.channel, message.session_id, message.owner_id)
            except ServiceUnavailable:
                run.begun_perhaps = run.lease.first
                raise

        change = await self._timed(run, "start", until_available(start))
        if change.owner_matches is False:
            raise InvalidMessage("wrong_owner", f"session {message.session_id} is not of {message.owner_id}")
        # "processing" is our own start whose answer was lost, unless somebody began this session before us.
        run.begun = change.changed or (change.status == "processing" and run.begun_perhaps)
        if run.begun:
            log.info("generation_started", queued_seconds=round(time.time() - message.created_at.timestamp(), 3))
        elif change.status == "processing" and not await self._settlement.is_waiting(message.session_id):
            # We hold the lease, so its worker is gone; it may have paid, so there is no second call.
            raise WorkerLost("its worker vanished in the middle of it")
        else:
            log.info("message_dropped", why="nothing to do", status=change.status)
            raise SessionTaken

    async def _make(self, run: _Run) -> Outcome:
        message = run.message
        pictures = await self._timed(run, "pictures", all_of(self._picture(url) for url in message.image_urls))
        edit = await self._timed(run, "edit", self._edit(run, pictures))
        del pictures
        jpeg = await self._verified(edit)
        path = result_path(message.channel, message.owner_id, message.session_id)
        await self._timed(run, "upload", until_available(lambda: self._storage.upload(path, jpeg)))
        url = await self._timed(run, "sign", until_available(lambda: self._storage.sign(path)))
        return Outcome(
            channel=message.channel,
            session_id=message.session_id,
            kind="completed",
            processing_time_ms=run.elapsed_ms,
            image_url=url,
            input_tokens=edit.input_tokens,
            output_tokens=edit.output_tokens,
            cost_usd=edit.cost_usd,
        )

    async def _picture(self, url: str) -> bytes:
        """Fetched and resized at once, so that only a few originals are in memory at any time."""
        async with self._downloads:
            return await self._in_thread(images.normalise, await self._fetcher.fetch(url))

    async def _edit(self, run: _Run, pictures: list[bytes]) -> Edit:
        """The paid call; after a first 429 the session is queued again for a while and the call made once more."""
        prompt = run.message.prompt.strip() or DEFAULT_PROMPT
        try:
            return await self._editor.edit(pictures, prompt, run.calling)
        except RateLimited as error:
            run.called_openai = False
            wait = max(self._settings.rate_limit_retry_seconds, error.retry_after)
            wait = min(wait, self._settings.rate_limit_retry_max_seconds)
            log.warning("generation_requeued", reason=error.reason, wait_seconds=wait, detail=str(error))
        await until_available(lambda: self._sessions.requeue(run.message.channel, run.message.session_id))
        await asyncio.sleep(wait)
        await self._restart(run)
        return await self._editor.edit(pictures, prompt, run.calling)

    async def _restart(self, run: _Run) -> None:
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
            return await self._in_thread(images.to_jpeg, edit.image)
        except ImageError as error:
            raise EditFailed(f"OpenAI's picture is no picture: {error}") from error

    async def _hand_back(self, run: _Run) -> End:
        """The session waits in the queue again, as if it had not been begun."""
        if run.begun or run.begun_perhaps:
            await until_available(lambda: self._sessions.requeue(run.message.channel, run.message.session_id))
        return End.GIVE_BACK

    def _failed(self, run: _Run, error: GenerationError) -> Outcome:
        return settlement.failed(run.message.channel, run.message.session_id, error, run.elapsed_ms)

    async def _in_thread(self, function: Callable[[bytes], T], data: bytes) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._image_threads, function, data)

    async def _timed(self, run: _Run, step: str, work: Awaitable[T]) -> T:
        begun = time.monotonic()
        try:
            return await work
        finally:
            run.steps[step] = round(time.monotonic() - begun, 3)


async def all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error ends the other calls."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
