"""A claimed message on its way to this container's pool, or to the dead letters when it cannot be used."""

import asyncio
from dataclasses import dataclass

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


@dataclass(eq=False, repr=False)
class Forwarding:
    """Hands messages to Celery."""

    claims: Claims
    celery: Celery
    pauses: Pauses
    refusal: Refusal
    #: Bulk may run here.
    has_bulk: bool = False

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
        await asyncio.to_thread(self._send, payload.decode(), probe)

    def _send(self, payload: str, probe: str) -> None:
        try:
            # Task events and Celery's own log lines say what `argsrepr` does, not the prompt and the signed addresses.
            self.celery.send_task(TASK, [payload, probe], retry=False, argsrepr="(message)")
        except (KombuError, OSError) as error:
            # It stays claimed; `reforward` finds it when Redis is back.
            raise ServiceUnavailable(f"Celery did not take the message: {type(error).__name__}") from error
