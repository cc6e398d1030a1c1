"""The end of a generation in the database, whatever happens: completed, or failed with the refund.

An outcome is kept in Redis before it is written, and forgotten once the database has it. So neither a database that is
away nor a worker that dies in between loses a paid picture or a refund.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.errors import CallRejected, ServiceUnavailable, StorageFailed
from worker.generation import metrics, odd
from worker.generation.outcome import EXPIRED, Outcome
from worker.generation.retrying import retry_for
from worker.generation.sessions.outcome_writer import OutcomeWriter
from worker.generation.sessions.ownership import Ownership
from worker.generation.sessions.rejected import Rejected
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.waiting import Waiting
from worker.logs import bind, get_logger

log = get_logger(__name__)

#: The generation itself tries this long before it leaves the outcome to the background loop.
_PATIENCE_SECONDS = 5.0
#: How often the background loop looks for outcomes that wait.
_INTERVAL_SECONDS = 2.0
#: ... as long as none was there; each look costs a command.
_REST_SECONDS = 10.0


class Settlement:
    """Writes outcomes; without the database they wait in Redis."""

    def __init__(self, redis: Redis, sessions: Sessions, address_seconds: float = math.inf) -> None:
        """`address_seconds`: a picture's address shows the picture for this long."""
        self.writer = OutcomeWriter(sessions)
        self._waiting = Waiting(redis)
        self._rejected = Rejected(redis)
        self._ownership = Ownership(redis)
        self._address_seconds = address_seconds
        self._deferred = asyncio.Event()
        #: Outcomes waited at the last look.
        self._waits = False

    async def defer(self, outcome: Outcome) -> None:
        """Keep the outcome for this process's background loop, which writes it at once."""
        await self._waiting.keep(outcome)
        self._deferred.set()

    async def settle(self, outcome: Outcome) -> None:
        """Return once the outcome is in the database, or safe in Redis to be written later."""
        while True:
            kept = await self._keep(outcome)
            try:
                there = await retry_for(_PATIENCE_SECONDS)(self.writer.write, outcome)
            except CallRejected as error:
                if await self._set_aside(str(outcome.session_id), outcome.model_dump_json(), str(error)) or kept:
                    return
                continue
            except ServiceUnavailable as error:
                if kept:
                    metrics.POSTPONED.inc()
                    log.warning("settlement_postponed", outcome=outcome.kind, error=str(error))
                    return
                # Neither Redis nor the database has the outcome: only this process knows it.
                log.error("settlement_homeless", outcome=outcome.kind, error=str(error))
                continue
            if kept and await self._forget(outcome.session_id):
                self.writer.count_lost(outcome, there)
            return

    async def settle_forever(self) -> None:
        """Write the outcomes that wait in Redis, with backoff while the database is unavailable."""
        pause = again = _INTERVAL_SECONDS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._deferred.wait()
            self._deferred.clear()
            try:
                await self.settle_waiting()
                pause, again = _INTERVAL_SECONDS if self._waits else _REST_SECONDS, _INTERVAL_SECONDS
            except (ServiceUnavailable, RedisError) as error:
                pause = again = min(again * 1.5, 15.0)
                log.warning("settlement_waits", error=str(error), next_try_seconds=round(pause, 1))
            except Exception as error:
                odd.note("part", "settler", error)

    async def settle_waiting(self) -> int:
        """Write all outcomes that no worker settles itself. Return the number of outcomes written."""
        written = 0
        refused: ServiceUnavailable | None = None
        entries = await self._waiting.entries()
        self._waits = bool(entries)
        for session_id, kept in entries:
            try:
                written += await self._settle_entry(session_id, kept)
            except ServiceUnavailable as error:
                # An outcome that the database does not take now must not keep the others waiting.
                refused = error
            except RedisError:
                raise
            except Exception as error:
                odd.note("outcome", session_id, error)
                await self._set_aside(session_id, kept.decode(errors="replace"), f"{type(error).__name__}: {error}")
        if refused:
            raise refused
        return written

    async def is_waiting(self, session_id: UUID) -> bool:
        """Return True if this session's outcome is known and only has to be written, by a worker or by an operator."""
        return bool(await self.known([session_id]))

    async def known(self, session_ids: Sequence[UUID]) -> set[UUID]:
        """Return the sessions whose outcome is known, as `is_waiting` tells for one session."""
        return await self._waiting.known(session_ids)

    async def _settle_entry(self, session_id: str, kept: bytes) -> bool:
        """Write one outcome. Return False if it is set aside, or left to the worker that has the lease."""
        outcome = _read(session_id, kept)
        if outcome is None:
            await self._set_aside(session_id, kept.decode(errors="replace"), "the entry is no outcome")
            return False
        if await self._ownership.is_held(outcome.session_id):
            return False
        too_old = outcome.kind == "completed" and time.time() - outcome.known_at > self._address_seconds
        if outcome.image_url == EXPIRED or too_old:  # the picture cannot be shown any more
            failed = {"kind": "failed", "reason": StorageFailed.reason, "user_message": StorageFailed.user_message}
            outcome = outcome.model_copy(update={**failed, "image_url": ""})
        try:
            with bind(**({"request_id": outcome.request_id} if outcome.request_id else {})):
                there = await self.writer.write(outcome)
        except CallRejected as error:
            await self._set_aside(session_id, outcome.model_dump_json(), str(error))
            return False
        if await self._waiting.forget(outcome.session_id):
            self.writer.count_lost(outcome, there)
        return True

    async def _set_aside(self, session_id: str, outcome: str, error: str) -> bool:
        """Leave the outcome to an operator. Return False if Redis does not take the outcome."""
        try:
            await self._rejected.add(session_id, outcome, error)
        except RedisError as unavailable:
            log.warning("settlement_not_set_aside", error=type(unavailable).__name__)
            return False
        log.error("settlement_rejected", session_id=session_id, error=error)
        return True

    async def _keep(self, outcome: Outcome) -> bool:
        try:
            await self._waiting.keep(outcome)
        except RedisError as error:
            log.warning("settlement_not_kept", error=type(error).__name__)
            return False
        return True

    async def _forget(self, session_id: UUID) -> bool:
        try:
            return await self._waiting.forget(session_id)
        except RedisError as error:
            # The background loop finds the session settled and forgets the outcome.
            log.warning("settlement_not_forgotten", error=type(error).__name__)
            return False


def _read(session_id: str, kept: bytes) -> Outcome | None:
    """Read the outcome that is kept for the session. Return None for an entry of another version, or made by hand."""
    try:
        outcome = Outcome.model_validate_json(kept)
    except ValidationError as error:
        odd.note("outcome", session_id, f"{error.error_count()} fields are not as this version writes them")
        return None
    if str(outcome.session_id) != session_id:
        odd.note("outcome", session_id, "it is another session's")
        return None
    return outcome
