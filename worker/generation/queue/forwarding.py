"""A claimed message on its way to this container's pool, or to the dead letters when it cannot be used."""

import asyncio
from dataclasses import dataclass, field

from celery import Celery
from kombu.exceptions import KombuError

from worker.errors import InvalidMessage, ServiceUnavailable
from worker.generation import odd
from worker.generation.celery.app import TASK
from worker.generation.message import parse
from worker.generation.pauses.pauses import Pauses
from worker.generation.queue.claims import Claims
from worker.generation.queue.envelope import correlation
from worker.generation.queue.refusal import Refusal
from worker.logs import get_logger

log = get_logger(__name__)

#: A connection that has broken unnoticed is given up and opened again within this.
_SEND_SECONDS = 15.0


@dataclass(eq=False, repr=False)
class Forwarding:
    """Hands messages to Celery."""

    claims: Claims
    celery: Celery
    pauses: Pauses
    refusal: Refusal
    #: Bulk may run here.
    has_bulk: bool = False
    #: In threads, which go on when the consumer is cancelled.
    _sends: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def forward(self, payload: bytes, probe: str = "") -> None:
        """Forward the message, or refuse it.

        `probe` is the reason of the pause that the message is to probe. Unusable messages leave the probe to the next.
        """
        try:
            message = parse(payload)
        except InvalidMessage as error:
            await self.refusal.refuse(payload, error)
            return
        except Exception as error:
            odd.note("message", correlation(payload), error)
            problem = f"cannot be read: {type(error).__name__}"
            await self.refusal.refuse(payload, InvalidMessage("invalid_field", problem))
            return
        session = str(message.session_id)
        self.has_bulk |= message.is_bulk
        if probe and not await self.pauses.give_probe(self.claims.instance, session):
            probe = ""  # the pause has ended, or another instance's message probes
        log.info(
            "message_taken", request_id=message.request_id, session_id=session, **({"probe": probe} if probe else {})
        )
        send = asyncio.create_task(asyncio.to_thread(self._send, payload.decode(), probe))
        self._sends.add(send)
        send.add_done_callback(self._sends.discard)
        await asyncio.shield(send)

    async def sent(self) -> None:
        """Return once nothing is being sent, also for a consumer that was cancelled.

        What is sent after the instance's departure, which deletes its Celery queue, stays in Redis for good.
        """
        if self._sends:
            await asyncio.wait(self._sends, timeout=_SEND_SECONDS)

    def _send(self, payload: str, probe: str) -> None:
        try:
            # Task events and Celery's own log lines say what `argsrepr` does, not the prompt and the signed addresses.
            self.celery.send_task(TASK, [payload, probe], retry=False, argsrepr="(message)")
        except (KombuError, OSError) as error:
            # It stays claimed; `reforward` finds it when Redis is back.
            raise ServiceUnavailable(f"Celery did not take the message: {type(error).__name__}") from error
