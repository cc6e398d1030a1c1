"""The end of a generation that made no picture: a failure to settle, a pause, or the message back in the queue."""

import asyncio
from dataclasses import dataclass
from enum import Enum

from worker.errors import (
    CallRejected,
    EditFailed,
    GenerationError,
    InvalidMessage,
    MessageRefused,
    Paused,
    Postponed,
    Preempted,
    ServiceOutage,
    WorkerLost,
)
from worker.generation import metrics
from worker.generation.outcome import Outcome
from worker.generation.pauses.breaker import Breaker
from worker.generation.pipeline.probes import Probes
from worker.generation.pipeline.starts import Starts
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.retrying import until_available
from worker.generation.run import Run, SessionTaken
from worker.generation.sessions.marks import Stage
from worker.logs import get_logger

log = get_logger(__name__)

#: OpenAI has failed this session so often while it served others: then it is the session.
MAX_FAILURES = 3


class End(Enum):
    """The fate of the message."""

    FINISHED = "finished"
    REQUEUE = "requeue"
    #: Behind some others: the same message is not the next probe again.
    REQUEUE_BEHIND = "requeue_behind"


@dataclass(eq=False, repr=False)
class Ends:
    """Chooses the end by the error."""

    starts: Starts
    breaker: Breaker
    probes: Probes
    dead_letters: DeadLetters

    async def of(self, run: Run, payload: bytes, error: BaseException) -> Outcome | End:  # noqa: PLR0911  # a table
        """The end of a generation without a picture: an outcome to settle, or the fate of its message."""
        match error:
            case SessionTaken():
                return dropped()
            case Postponed():
                return await self._postpone(run, error)
            case InvalidMessage():
                log.error("message_refused", reason=error.reason, detail=error.detail)
                await until_available(self.dead_letters.add, payload, error.reason, error.detail)
                metrics.REFUSED.labels(error.reason).inc()
                return _failed(run, MessageRefused(str(error)))
            case CallRejected():
                # The same message would be rejected again and again.
                log.error("generation_failing", reason=MessageRefused.reason, detail=str(error))
                return _failed(run, MessageRefused(str(error)))
            case GenerationError():
                log.warning("generation_failing", reason=error.reason, detail=str(error))
                return _failed(run, error)
            case asyncio.CancelledError():
                if run.stage is not Stage.STARTED:
                    return _failed(run, WorkerLost("the worker was told to stop in the middle of the call"))
                reason = "preempted" if run.preempted else "released"
                log.info(f"generation_{reason}")
                return await self._requeue(run, reason)
            case _ if not run.started:
                # The session is untouched and its credit is safe: it will be tried again.
                log.warning("generation_not_started", error=f"{type(error).__name__}: {error}")
                return await self._requeue(run, "not_started")
            case _:
                log.error("generation_crashed", exc_info=error)
                return _failed(run, GenerationError(type(error).__name__))

    async def _postpone(self, run: Run, error: Postponed) -> Outcome | End:
        """Pause the intake for the error's reason; a session that OpenAI alone fails, time after time, is failed."""
        if isinstance(error, Paused | Preempted):
            log.info("generation_postponed", reason=error.reason)
            return await self._requeue(run, error.reason)
        if run.probe:
            metrics.PROBES.labels("failed").inc()
        log.error("generation_postponed", reason=error.reason, detail=str(error), probe=bool(run.probe))
        if not isinstance(error, ServiceOutage):
            await self.probes.pause_for(run, error)
        elif await self.breaker.failed() >= MAX_FAILURES:
            return _failed(run, EditFailed(str(error)))
        return await self._requeue(run, error.reason, End.REQUEUE_BEHIND)

    async def _requeue(self, run: Run, reason: str, end: End = End.REQUEUE) -> End:
        return end if await self.starts.requeue(run, reason) else End.FINISHED


def _failed(run: Run, error: GenerationError) -> Outcome:
    return Outcome.failed(run.message.session, error, run.elapsed_ms, run.message.created_at, run.facts)


def dropped() -> End:
    """The end of a message whose session another worker has."""
    metrics.DROPPED.inc()
    return End.FINISHED
