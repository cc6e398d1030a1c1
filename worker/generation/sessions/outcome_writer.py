"""One outcome, written into the database: the answer is logged and counted, also when an earlier answer was lost."""

from collections.abc import Callable
from uuid import UUID

from worker.generation import metrics
from worker.generation.outcome import Outcome
from worker.generation.sessions import events
from worker.generation.sessions.change import Change
from worker.generation.sessions.sessions import Sessions
from worker.generation.supabase.database import AnswerLost
from worker.logs import get_logger

log = get_logger(__name__)

#: Lost answers that are remembered for the metric; entries of outcomes that another process settles stay.
_UNSURE_MAX = 10_000


class OutcomeWriter:
    """Raises ServiceUnavailable, or CallRejected for an outcome that the database never takes."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        #: Called when a callback of a store waits for its deliverer.
        self.on_callbacks: Callable[[], object] = lambda: None
        #: Outcomes that this process wrote without getting an answer: the database may have them all the same.
        self._unsure = set[UUID]()

    async def write(self, outcome: Outcome) -> bool:
        """Write the outcome. Return True if the database had it: an answer was lost, or another process wrote it."""
        steps: dict[str, float] = {}
        try:
            with metrics.step("settle", steps):
                change = await self._change(outcome)
        except AnswerLost:
            if len(self._unsure) < _UNSURE_MAX:
                self._unsure.add(outcome.session_id)
            raise
        if change.events_error:
            events.refused(change.events_error)
        if change.callbacks:
            self.on_callbacks()
        return _report(outcome, change, steps["settle"])

    def count_lost(self, outcome: Outcome, there: bool) -> None:
        """Count an outcome that an earlier try of this process wrote, and whose answer was lost."""
        if there and outcome.session_id in self._unsure:
            metrics.settled(outcome, None)
        self._unsure.discard(outcome.session_id)

    async def _change(self, outcome: Outcome) -> Change:
        if outcome.kind == "completed":
            return await self._sessions.complete(outcome)
        return await self._sessions.fail(
            outcome.session, outcome.user_message, outcome.processing_time_ms, outcome.event
        )


def _report(outcome: Outcome, change: Change, seconds: float) -> bool:
    """Log and count the database's answer. Return True if the database had the outcome already."""
    event = {"session_id": str(outcome.session_id), "channel": outcome.channel, "settle_seconds": seconds}
    if version := outcome.facts.get("prompt_version"):
        event["prompt_version"] = version
    already = change.status == outcome.kind and change.image_url in (None, outcome.image_url)
    if change.changed:
        metrics.settled(outcome, change.refund)
    if not change.changed and not already:
        log.warning("outcome_discarded", outcome=outcome.kind, status=change.status, **event)
    elif outcome.kind == "completed":
        log.info(
            "generation_completed",
            processing_time_ms=outcome.processing_time_ms,
            input_tokens=outcome.input_tokens,
            output_tokens=outcome.output_tokens,
            cost_usd=outcome.cost_usd,
            **event,
        )
    else:
        log.warning("generation_failed", reason=outcome.reason, refund=change.refund, **event)
        if metrics.BY_HAND.get(change.refund or "") == outcome.channel:
            # Nothing was credited: an operator has to look at how this session was charged.
            log.error("refund_by_hand_needed", payer=change.refund, **event)
    return already and not change.changed
