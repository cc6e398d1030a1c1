"""The steps between a started session and its outcome: fetch, resize, edit, upload, sign."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from worker.errors import (
    AccountRefused,
    EditFailed,
    GenerationError,
    ImageError,
    Paused,
    Postponed,
    RateLimited,
    ServiceOutage,
    ServiceUnavailable,
)
from worker.generation import metrics as generations
from worker.generation import openai_metrics as image_api
from worker.generation.breaker import Attempt, Breaker
from worker.generation.expiry import Expiry
from worker.generation.leases import Lease, Leases
from worker.generation.message import GenerationMessage
from worker.generation.openai_images import Edit, ImageEditor
from worker.generation.outcome import Outcome
from worker.generation.pauses import OPENAI, STORAGE, Pauses
from worker.generation.prompt import DEFAULT_PROMPT
from worker.generation.retrying import AWAY, until_available
from worker.generation.sessions import Sessions
from worker.generation.storage import Storage
from worker.logs import get_logger
from worker.photos.decode import normalise, to_jpeg
from worker.photos.fetcher import ImageFetcher
from worker.settings import Settings

log = get_logger(__name__)
T = TypeVar("T")

#: Pictures in memory as they were sent (up to 10 MiB each) in one process; everything else waits its turn.
DOWNLOADS = 32
#: A probe waits this long for a storage that is away; then the pause goes on.
_CHECK_PATIENCE_SECONDS = 10.0
#: A paid picture does not wait longer for Redis to take note of a pause or its end.
_PAUSE_PATIENCE_SECONDS = 2.0
#: Between two uploads of a picture that the storage refuses.
_MAX_UPLOAD_WAIT_SECONDS = 8.0


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
    #: The reason of the pause that this generation probes; empty: it is no probe.
    probe: str = ""
    #: Why the storage does not take the paid picture.
    refused: AccountRefused | ServiceUnavailable | None = None
    attempt: Attempt = field(init=False)

    def __post_init__(self) -> None:
        self.attempt = Attempt(self.message.session_id, probe=bool(self.probe))

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
        pauses: Pauses,
        breaker: Breaker,
        expiry: Expiry,
        image_threads: Executor,
    ) -> None:
        self._settings = settings
        self._leases = leases
        self._sessions = sessions
        self._fetcher = fetcher
        self._editor = editor
        self._storage = storage
        self._pauses = pauses
        self._breaker = breaker
        self._expiry = expiry
        self._image_threads = image_threads
        self._downloads = asyncio.Semaphore(DOWNLOADS)
        self._calls = asyncio.Semaphore(settings.worker_concurrency)

    async def make(self, run: Run) -> Outcome:
        """The picture, paid for, stored and signed; raises GenerationError when there will be none."""
        message = run.message
        pictures = await run.timed("pictures", all_of(self._picture(url) for url in message.image_urls))
        path = message.channel.picture_path(message.owner_id, message.session_id)
        async with self._calls:
            if run.probe == STORAGE:
                await self._check_storage(path)
            edit = await run.timed("edit", self._edit(run, pictures))
        del pictures
        image_api.spent(message.channel, edit.model, edit.input_tokens, edit.output_tokens, edit.cost_usd)
        jpeg = await self._verified(edit)
        with generations.step("upload"):
            await run.timed("upload", self._stored(run, lambda: self._storage.upload(path, jpeg)))
        image_api.image("out", len(jpeg))
        with generations.step("sign"):
            url = await run.timed("sign", self._stored(run, lambda: self._storage.sign(path)))
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
        try:
            return await self._call(run, pictures)
        except RateLimited as error:
            run.called_openai = False
            wait = max(self._settings.rate_limit_retry_seconds, error.retry_after)
            wait = min(wait, self._settings.rate_limit_retry_max_seconds)
            generations.REQUEUED.labels(error.reason).inc()
            log.warning("generation_requeued", reason=error.reason, wait_seconds=wait, detail=str(error))
        await until_available(lambda: self._sessions.requeue(run.message.session))
        await asyncio.sleep(wait)
        await self._restart(run)
        return await self._call(run, pictures)

    async def _call(self, run: Run, pictures: list[bytes]) -> Edit:
        """The paid call with its retries; a probe's ends sooner, and ends the pause when it shows the reason gone."""
        prompt = run.message.prompt.strip() or DEFAULT_PROMPT
        try:
            async with asyncio.timeout(None) as limit:
                run.attempt.stop = partial(_expire_soon, limit, 0)
                edit = await self._editor.edit(pictures, prompt, partial(self._calling, run, limit))
        except TimeoutError:
            if not limit.expired():
                raise
            raise await self._stopped(run) from None
        except GenerationError as error:
            # Any answer shows that OpenAI is there; only a picture shows that it has taken the account again.
            if run.probe == OPENAI and run.attempt.available and not isinstance(error, Postponed):
                await self._proved(run)
            raise
        finally:
            run.attempt.stop = None
        if run.probe != STORAGE:
            await self._proved(run)
        return edit

    async def _stopped(self, run: Run) -> Postponed:
        """Why the call was ended here: a probe got no answer in time, or a failed call is not retried in a pause."""
        run.attempt.stop = None
        if run.attempt.waiting:
            await self._breaker.answered(available=False)
            return ServiceOutage(OPENAI, f"no answer within {self._settings.probe_limit_seconds:g} s")
        if run.probe:
            return ServiceOutage(OPENAI, "the probe's call failed")
        return Paused(OPENAI, "OpenAI failed, and the intake is paused")

    async def _calling(self, run: Run, limit: asyncio.Timeout) -> None:
        """The request to OpenAI goes out, unless this process stood still so long that another may have made it."""
        await self._expiry.check(run.message)
        if not await until_available(partial(self._leases.keep, run.lease)):
            log.warning("message_dropped", why="another worker took the session over")
            raise SessionTaken
        run.called_openai = run.attempt.waiting = True
        if run.probe:
            _expire_soon(limit, self._settings.probe_limit_seconds)

    async def _check_storage(self, path: str) -> None:
        """Prove that the picture could be stored, before it is paid for."""
        try:
            await until_available(lambda: self._storage.check(path), _CHECK_PATIENCE_SECONDS)
        except ServiceUnavailable as error:
            raise AccountRefused(STORAGE, str(error)) from error

    async def _stored(self, run: Run, call: Callable[[], Awaitable[T]]) -> T:
        """The storage's result. While it refuses the account, the intake is paused and the paid picture waits here."""
        pause = 1.0
        while True:
            try:
                result = await until_available(call, _CHECK_PATIENCE_SECONDS)
            except (AccountRefused, ServiceUnavailable) as error:
                # A storage that is away for longer than moments: no further picture is paid for, either.
                if run.refused is None:
                    log.error("picture_waits_for_storage", reason=STORAGE, detail=str(error))
                run.refused = error
                await self._noted(
                    partial(
                        self._pauses.begin,
                        STORAGE,
                        self._settings.quota_pause_seconds,
                        str(run.message.session_id),
                    )
                )
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_UPLOAD_WAIT_SECONDS)
                continue
            if run.refused or run.probe == STORAGE:
                run.refused = None
                await self._noted(partial(self._pauses.end, reason=STORAGE))
            return result

    async def _proved(self, run: Run) -> None:
        """The probe has shown that the reason of its pause is gone."""
        if run.probe:
            ended = await self._noted(partial(self._pauses.end, session=str(run.message.session_id), reason=run.probe))
            if ended:
                log.warning("intake_recovered", reason=run.probe)
                generations.PROBES.labels("recovered").inc()
            run.probe = ""

    async def _noted(self, change: Callable[[], Awaitable[bool]]) -> bool:
        """A change of the pause. One that Redis does not take is made by the next probe."""
        try:
            async with asyncio.timeout(_PAUSE_PATIENCE_SECONDS):
                return await until_available(change)
        except (*AWAY, TimeoutError) as error:
            log.warning("pause_not_changed", error=type(error).__name__)
            return False

    async def _restart(self, run: Run) -> None:
        message = run.message
        change = await until_available(lambda: self._sessions.start(message.session, message.owner_id))
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


def _expire_soon(limit: asyncio.Timeout, seconds: float) -> None:
    with suppress(RuntimeError):  # it is expiring already
        limit.reschedule(asyncio.get_running_loop().time() + seconds)


async def all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error ends the other calls."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
