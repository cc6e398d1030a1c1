"""Messages that cannot be used: dead-lettered, and their sessions settled."""

from dataclasses import dataclass

from worker.errors import InvalidMessage, MessageRefused
from worker.generation import metrics
from worker.generation.channel import SessionRef
from worker.generation.outcome import Outcome
from worker.generation.queue.claims import Claims
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.queue.envelope import correlation, identify, session_of
from worker.generation.retrying import retry_for
from worker.generation.sessions.ownership import Ownership
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.logs import bind, get_logger

log = get_logger(__name__)

#: A database that is away holds the consumer up this long for one unusable message.
_SEARCH_PATIENCE_SECONDS = 5.0


@dataclass(eq=False, repr=False)
class Refusal:
    """The end of a claimed message that no pipeline sees."""

    claims: Claims
    ownership: Ownership
    dead_letters: DeadLetters
    sessions: Sessions
    settlement: Settlement

    async def refuse(self, payload: bytes, error: InvalidMessage) -> None:
        """Dead-letter the message, and settle its session at once if the session can be read."""
        known = identify(payload) or await self._search(payload)
        with bind(**correlation(payload)):
            letter = await self.dead_letters.add(payload, error.reason, error.detail)
            metrics.REFUSED.labels(error.reason).inc()
            log.error("message_refused", reason=error.reason, detail=error.detail, dead_letter=letter.id)
            if known and not await self.ownership.is_held(known.id):
                await self.settlement.defer(Outcome.failed(known, MessageRefused(error.detail)))
            await self.claims.finish(payload)

    async def _search(self, payload: bytes) -> SessionRef | None:
        """Session of a message whose channel cannot be read, if only one channel has the session."""
        named = session_of(payload)
        if named is None:
            return None
        # Before the dead letter: a message that is left claimed now is refused as a whole the next time.
        return await retry_for(_SEARCH_PATIENCE_SECONDS)(self.sessions.find, *named)
