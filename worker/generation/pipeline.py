"""One generation from the claimed message to the settled session: lease, start, steps, settle, within one deadline."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from functools import partial
from uuid import UUID

from worker.errors import (
    CallRejected,
    DeadlineExceeded,
    EditFailed,
    GenerationError,
    InvalidMessage,
    MessageExpired,
    MessageRefused,
    Orphaned,
    Paused,
    Postponed,
    ServiceOutage,
    ServiceUnavailable,
    StorageFailed,
    WorkerLost,
)
from worker.generation import metrics
from worker.generation.breaker import ATTEMPT, Breaker
from worker.generation.dead_letters import DeadLetters
from worker.generation.expiry import Expiry
from worker.generation.leases import Leases
from worker.generation.message import GenerationMessage
from worker.generation.outcome import Outcome
from worker.generation.pauses import PROBE_SECONDS, Pauses
from worker.generation.retrying import AWAY, until_available
from worker.generation.sessions import Change, Sessions
from worker.generation.settlement import Settlement
from worker.generation.steps import Run, SessionTaken, Steps
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)

#: OpenAI has failed this session so often while it served others: then it is the session.
MAX_FAILURES = 3


class End(Enum):
    """What becomes of the message."""

    FINISHED = "finished"
    GIVE_BACK = "give_back"
    #: Behind some others: the same message is not the next probe again.
    GIVE_BACK_BEHIND = "give_back_behind"


class Pipeline:
    """Decides how a generation begins and ends; the steps between are `steps`."""

    def __init__(
        self,
        settings: Settings,
        *,
        steps: Steps,
        leases: Leases,
        sessions: Sessions,
        settlement: Settlement,
        pauses: Pauses,
        breaker: Breaker,
        expiry: Expiry,
        dead_letters: DeadLetters,
    ) -> None:
        self._settings = settings
        self._steps = steps
        self._leases = leases
        self._sessions = sessions
        self._settlement = settlement
        self._pauses = pauses
        self._breaker = breaker
        self._expiry = expiry
        self._dead_letters = dead_letters
        self._interruptible: set[asyncio.Task[Outcome]] = set()
        self._letting_go = False

    async def generate(self, message: GenerationMessage, payload: bytes, probe: str = "") -> End:
        """Work on the session unless somebody else does; returns what becomes of the message.

        `probe` is the reason of the pause that this generation probes, alone of all.
        """
        if not probe:
            return await self._generate_alone(message, payload, probe)
        async with self._probing(message.session_id):
            return await self._generate_alone(message, payload, probe)

    async def _generate_alone(self, message: GenerationMessage, payload: bytes, probe: str) -> End:
        lease = await self._leases.acquire(message.session_id)
        if lease is None:
            metrics.DROPPED.inc()
            log.info("duplicate_dropped", why="another worker has the session")
            return End.FINISHED
        run = Run(message, lease, probe=probe)
        try:
            return await self._generate(run, payload)
        finally:
            await self._leases.release(lease)

    def release(self) -> None:
        """Let go of everything that runs: not yet paid for goes back to the queue, the rest is failed and refunded."""
        self._letting_go = True
        for task in self._interruptible:
            task.cancel()

    async def _generate(self, run: Run, payload: bytes) -> End:
        ATTEMPT.set(run.attempt)
        work = asyncio.create_task(self._within_deadline(run))
        self._interruptible.add(work)
        if self._letting_go:
            work.cancel()
        try:
            outcome = await work
        except SessionTaken:
            metrics.DROPPED.inc()
            return End.FINISHED
        except Postponed as error:
            if not await self._postpone(run, error):
                behind = not isinstance(error, Paused)
                return await self._hand_back(run, error.reason, behind=behind)
            outcome = self._failed(run, EditFailed(str(error)))
        except InvalidMessage as error:
            log.error("message_refused", reason=error.reason, detail=error.detail)
            await until_available(partial(self._dead_letters.add, payload, error.reason, error.detail))
            metrics.REFUSED.labels(error.reason).inc()
            outcome = self._failed(run, MessageRefused(str(error)))
        except CallRejected as error:
            # The same message would be rejected again and again.
            log.error("generation_failing", reason=MessageRefused.reason, detail=str(error))
            outcome = self._failed(run, MessageRefused(str(error)))
        except GenerationError as error:
            log.warning("generation_failing", reason=error.reason, detail=str(error))
            outcome = self._failed(run, error)
        except asyncio.CancelledError:
            if not run.called_openai:
                log.info("generation_released")
                return await self._hand_back(run, "released")
            outcome = self._failed(run, WorkerLost("the worker was told to stop in the middle of the call"))
        except Exception as error:
            if not run.begun:
                # The session is untouched and its credit is safe: it will be tried again.
                log.warning("generation_not_started", error=f"{type(error).__name__}: {error}")
                return await self._hand_back(run, "not_started")
            log.exception("generation_crashed")
            outcome = self._failed(run, GenerationError(type(error).__name__))
        finally:
            self._interruptible.discard(work)
        await self._settlement.settle(outcome)
        log.info("generation_ended", outcome=outcome.kind, seconds=run.elapsed_ms / 1000, steps=run.steps)
        return End.FINISHED

    async def _within_deadline(self, run: Run) -> Outcome:
        limit = self._settings.generation_timeout_seconds
        try:
            async with asyncio.timeout(limit) as deadline:
                await self._expire(run)
                await self._start(run)
                return await self._steps.make(run)
        except TimeoutError:
            if not deadline.expired() or not run.begun:
                raise
            if run.attempt.waiting:
                await self._breaker.answered(available=False)
                await self._breaker.failed()
            if run.refused:
                raise StorageFailed(f"storage refused the picture for {limit:g} s: {run.refused}") from None
            raise DeadlineExceeded(f"generation took longer than {limit:g} s") from None

    async def _expire(self, run: Run) -> None:
        try:
            await self._expiry.check(run.message)
        except MessageExpired:
            if await until_available(partial(self._settlement.is_waiting, run.message.session_id)):
                raise SessionTaken from None  # its end is known and only has to be written
            raise

    async def _start(self, run: Run) -> None:
        """queued -> processing; raises when that is not for us to do."""
        message = run.message

        async def start() -> Change:
            try:
                return await self._sessions.start(message.session, message.owner_id)
            except (ServiceUnavailable, asyncio.CancelledError):
                # The database may have done it all the same.
                run.begun_perhaps = run.lease.first
                raise

        with metrics.step("start"):
            change = await run.timed("start", until_available(start))
        if change.owner_matches is False:
            raise InvalidMessage("wrong_owner", f"session {message.session_id} is not of {message.owner_id}")
        if not change.paid:
            raise MessageRefused(f"the ledger shows no unused credit for session {message.session_id}")
        if not change.changed and not await self._ours(run):
            log.info("message_dropped", why="another worker took the session over", status=change.status)
            raise SessionTaken
        # "processing" is our own start whose answer was lost, unless somebody began this session before us.
        run.begun = change.changed or (change.status == "processing" and run.begun_perhaps)
        if run.begun:
            queued_seconds = time.time() - message.created_at.timestamp()
            metrics.waited(queued_seconds)
            log.info("generation_started", queued_seconds=round(queued_seconds, 3))
        elif change.status == "processing" and not await self._settlement.is_waiting(message.session_id):
            # We hold the lease, so its worker is gone; it may have paid, so there is no second call.
            raise WorkerLost("its worker vanished in the middle of it")
        else:
            log.info("message_dropped", why="nothing to do", status=change.status)
            if change.status == "failed":
                # A store's uninstall fails its sessions without a refund.
                raise Orphaned("the session was failed before its message came")
            raise SessionTaken

    async def _postpone(self, run: Run, error: Postponed) -> bool:
        """Pause the intake for the error's reason; -> true when OpenAI fails this session alone, time after time."""
        if isinstance(error, Paused):
            log.info("generation_postponed", reason=error.reason)
            return False
        if run.probe:
            metrics.PROBES.labels("failed").inc()
        log.error("generation_postponed", reason=error.reason, detail=str(error), probe=bool(run.probe))
        if isinstance(error, ServiceOutage):
            return await self._breaker.failed() >= MAX_FAILURES
        seconds, session = self._settings.quota_pause_seconds, str(run.message.session_id)
        if await until_available(partial(self._pauses.begin, error.reason, seconds, session)):
            log.error("intake_paused", reason=error.reason, probe_in_seconds=seconds)
        return False

    @asynccontextmanager
    async def _probing(self, session_id: UUID) -> AsyncIterator[None]:
        """Show that the probe is alive; however it ends, the next message may probe."""
        session = str(session_id)

        async def renew() -> None:
            while True:
                with suppress(*AWAY):
                    await self._pauses.renew_probe(session)
                await asyncio.sleep(PROBE_SECONDS / 4)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            if await until_available(partial(self._pauses.leave_probe, session)):
                metrics.PROBES.labels("unproven").inc()

    async def _hand_back(self, run: Run, reason: str, *, behind: bool = False) -> End:
        """The session waits in the queue again, as if it had not been begun."""
        if not await self._ours(run):
            return End.FINISHED
        if run.begun or run.begun_perhaps:
            await until_available(lambda: self._sessions.requeue(run.message.session))
        metrics.REQUEUED.labels(reason).inc()
        return End.GIVE_BACK_BEHIND if behind else End.GIVE_BACK

    async def _ours(self, run: Run) -> bool:
        """Whether nobody took the session over while this process, or Redis, stood still."""
        return await until_available(partial(self._leases.keep, run.lease))

    def _failed(self, run: Run, error: GenerationError) -> Outcome:
        message = run.message
        return Outcome.failed(message.session, error, run.elapsed_ms, message.created_at)
