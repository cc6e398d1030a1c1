"""The start of a session, and its way back into the queue: both only while this worker has the session's lease."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from worker.errors import (
    Cancelled,
    ConsentMissing,
    InvalidMessage,
    MessageExpired,
    MessageRefused,
    Orphaned,
    ServiceUnavailable,
)
from worker.generation import metrics
from worker.generation.pipeline.expiry import Expiry
from worker.generation.retrying import until_available
from worker.generation.run import Run, SessionTaken
from worker.generation.sessions.change import Change
from worker.generation.sessions.leases import Leases
from worker.generation.sessions.marks import MAX_STARTS, Receipt, Stage
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.generation.supabase.database import AnswerLost
from worker.logs import get_logger

log = get_logger(__name__)

#: A note that only saves money in a crash holds up nothing for longer.
_NOTE_SECONDS = 2.0


@dataclass(eq=False, repr=False)
class Starts:
    """Each method waits until Redis and the database answer."""

    sessions: Sessions
    leases: Leases
    settlement: Settlement
    expiry: Expiry
    require_consent: bool = False

    async def start(self, run: Run) -> bool:
        """Start the session: queued -> processing. Return False if a worker that is gone may have paid OpenAI for it.

        Raises SessionTaken, or the error that the session has to be failed with.
        """
        if run.lease.mark.stage is Stage.STARTED:  # else its picture may be there; the paid call checks again
            await self._check_age(run)
        with run.step("start"):
            change = await until_available(self._start, run)
        message = run.message
        if change.owner_matches is False:
            raise InvalidMessage("wrong_owner", f"session {message.session_id} is not of {message.owner_id}")
        if not change.paid:
            raise MessageRefused(f"the ledger shows no unused credit for session {message.session_id}")
        if not change.changed and not await self.is_ours(run):
            log.info("message_dropped", why="another worker took the session over", status=change.status)
            raise SessionTaken
        if not change.changed:
            if change.status != "processing" or await self.settlement.is_waiting(message.session_id):
                raise _no_start(change.status)
            if run.lease.first and not run.perhaps_started:
                # Redis lost the mark, or the session's worker uses another Redis: the sweep ends it after its deadline.
                log.warning("message_dropped", why="a worker without a mark here has the session")
                raise SessionTaken
        run.started = True
        if run.lease.mark.stage is not Stage.STARTED:
            if not change.changed:
                run.stage = Stage.PAID
                return False
            await self.note_unpaid(run)  # it waits in the queue only after an answer without a picture
        if run.lease.mark.starts > MAX_STARTS:
            raise InvalidMessage("poison", f"{MAX_STARTS} workers ended in the middle of this message")
        if self.require_consent and not message.consents:
            raise ConsentMissing("message names no consent_version or no age_verified; REQUIRE_CONSENT asks for both")
        self._log_start(run, again=not run.lease.first)
        return True

    def _log_start(self, run: Run, *, again: bool) -> None:
        queued_seconds = time.time() - run.message.created_at.timestamp()
        if not run.message.is_bulk:
            metrics.waited(queued_seconds)
        if again:
            metrics.RESTARTED.inc()
        queued = {"queued_seconds": round(queued_seconds, 3), "starts": run.lease.mark.starts}
        log.info("generation_started", **queued, **run.message.consent)

    async def restart(self, run: Run) -> None:
        """Start the session again after a wait of our own; raises SessionTaken, Orphaned."""
        if not await self.is_ours(run):
            raise SessionTaken
        change = await until_available(self.sessions.start, run.message.session, run.message.owner_id)
        # Not changed but processing: our own call, whose answer was lost.
        if change.status != "processing":
            raise _no_start(change.status)

    async def requeue(self, run: Run, reason: str) -> bool:
        """Requeue the session as if no worker had started it. Return False if another worker has the session."""
        if not await self.is_ours(run):
            return False
        if run.started or run.perhaps_started:
            await until_available(self.sessions.requeue, run.message.session)
        else:
            run.keep_mark = not run.lease.first
        metrics.REQUEUED.labels(reason).inc()
        return True

    async def check_open(self, run: Run) -> None:
        """Raise what `start` raises if the session has ended meanwhile; a database that is away holds up nothing."""
        with suppress(ServiceUnavailable):
            status = await self.sessions.status(run.message.session)
            if status != "processing":
                raise _no_start(status)

    async def note_call(self, run: Run) -> bool:
        """Note before a request to OpenAI that it may be paid. Return False if another worker has the session."""
        receipt = Receipt(prompt_version=str(run.facts["prompt_version"]))
        if not await until_available(self.leases.note, run.lease, Stage.CALLING, receipt):
            return False
        run.stage = Stage.CALLING
        return True

    async def note_unpaid(self, run: Run) -> None:
        """Note after a call that failed that nothing is in flight."""
        run.stage = Stage.STARTED
        await self._note(run, Stage.STARTED)

    async def note_paid(self, run: Run, receipt: Receipt) -> None:
        """Note that the picture is there; what the mark lacks, the session's row lacks after a crash."""
        run.stage = Stage.PAID
        await self._note(run, Stage.PAID, receipt)

    async def _note(self, run: Run, stage: Stage, receipt: Receipt | None = None) -> None:
        try:
            async with asyncio.timeout(_NOTE_SECONDS):
                await until_available(self.leases.note, run.lease, stage, receipt)
        except TimeoutError:
            log.warning("mark_not_changed", stage=stage)

    async def is_ours(self, run: Run) -> bool:
        """Return False if another worker took the session over while this process, or Redis, stood still."""
        return await until_available(self.leases.keep, run.lease)

    async def _check_age(self, run: Run) -> None:
        try:
            await self.expiry.check(run.message)
        except (MessageExpired, Cancelled):
            if await until_available(self.settlement.is_waiting, run.message.session_id):
                raise SessionTaken from None  # its end is known and only has to be written
            raise

    async def _start(self, run: Run) -> Change:
        try:
            return await self.sessions.start(run.message.session, run.message.owner_id)
        except (AnswerLost, asyncio.CancelledError):
            # The database may have done it all the same.
            run.perhaps_started = run.lease.mark.stage is Stage.STARTED
            raise


def _no_start(status: str | None) -> Exception:
    """The reason why nothing is done for a session that has ended, or whose end only has to be written."""
    log.info("message_dropped", why="nothing to do", status=status)
    if status == "failed":
        # A store's uninstall fails its sessions without a refund.
        return Orphaned("the session was failed before its picture was asked for")
    return SessionTaken()
