"""The start of a session, and its way back into the queue: both only while this worker has the session's lease."""

import asyncio
import time

from worker.errors import InvalidMessage, MessageExpired, MessageRefused, Orphaned, ServiceUnavailable, WorkerLost
from worker.generation import metrics
from worker.generation.expiry import Expiry
from worker.generation.leases import Leases
from worker.generation.retrying import until_available
from worker.generation.run import Run, SessionTaken
from worker.generation.sessions import Change, Sessions
from worker.generation.settlement import Settlement
from worker.logs import get_logger

log = get_logger(__name__)


class Starts:
    """Each method waits until Redis and the database answer."""

    def __init__(self, sessions: Sessions, leases: Leases, settlement: Settlement, expiry: Expiry) -> None:
        self._sessions = sessions
        self._leases = leases
        self._settlement = settlement
        self._expiry = expiry

    async def start(self, run: Run) -> None:
        """queued -> processing.

        Raises:
            SessionTaken: the session is not this worker's to start.
            GenerationError, InvalidMessage: the session has to be failed.
        """
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
        # "processing" is our own start whose answer was lost, unless another worker started this session before.
        run.started = change.changed or (change.status == "processing" and run.perhaps_started)
        if not run.started:
            raise await self._no_start(run, change)
        queued_seconds = time.time() - message.created_at.timestamp()
        metrics.waited(queued_seconds)
        log.info("generation_started", queued_seconds=round(queued_seconds, 3))

    async def restart(self, run: Run) -> None:
        """queued -> processing again, after a wait of our own.

        Raises:
            SessionTaken: the session has ended meanwhile.
        """
        change = await until_available(self._sessions.start, run.message.session, run.message.owner_id)
        # Not changed but processing: our own call, whose answer was lost.
        if change.status != "processing":
            log.info("message_dropped", why="ended while it waited for its retry", status=change.status)
            raise SessionTaken

    async def requeue(self, run: Run, reason: str) -> bool:
        """The session waits in the queue again, as if it had not been started; false when it is not ours any more."""
        if not await self.is_ours(run):
            return False
        if run.started or run.perhaps_started:
            await until_available(self._sessions.requeue, run.message.session)
        metrics.REQUEUED.labels(reason).inc()
        return True

    async def is_ours(self, run: Run) -> bool:
        """False when another worker took the session over while this process, or Redis, stood still."""
        return await until_available(self._leases.keep, run.lease)

    async def _check_age(self, run: Run) -> None:
        try:
            await self._expiry.check(run.message)
        except MessageExpired:
            if await until_available(self._settlement.is_waiting, run.message.session_id):
                raise SessionTaken from None  # its end is known and only has to be written
            raise

    async def _start(self, run: Run) -> Change:
        try:
            return await self._sessions.start(run.message.session, run.message.owner_id)
        except (ServiceUnavailable, asyncio.CancelledError):
            # The database may have done it all the same.
            run.perhaps_started = run.lease.first
            raise

    async def _no_start(self, run: Run, change: Change) -> Exception:
        """The reason why a session that is ours to start has not been started."""
        if change.status == "processing" and not await self._settlement.is_waiting(run.message.session_id):
            # We hold the lease, so its worker is gone; that worker may have paid, so there is no second call.
            return WorkerLost("its worker vanished in the middle of it")
        log.info("message_dropped", why="nothing to do", status=change.status)
        if change.status == "failed":
            # A store's uninstall fails its sessions without a refund.
            return Orphaned("the session was failed before its message came")
        return SessionTaken()
