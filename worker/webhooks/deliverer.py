"""The deliverer: claims callbacks that are due and sends them, beside the generations and never in their way."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from worker.errors import ServiceUnavailable
from worker.generation import odd
from worker.generation.retrying import retry_for
from worker.logs import get_logger
from worker.webhooks import metrics
from worker.webhooks.outbox import Claim, Delivery, Outbox, Report
from worker.webhooks.schedule import wait_after
from worker.webhooks.sender import Answer, Event, Sender

log = get_logger(__name__)

#: How often the database is asked while endpoints exist, and while there are none. A settlement of this worker that
#: queued a callback wakes the deliverer at once, so this is for retries and for what a dead worker has left.
POLL_SECONDS = 30.0
NO_ENDPOINTS_SECONDS = 60.0
#: Between two claims, however often the deliverer is woken.
_BREATH_SECONDS = 0.05
_STATE_SECONDS = 60.0
_TRIM_SECONDS = 3600.0
#: Time that a report is repeated; after that the attempt's lease ends, and the partner gets the same id again.
_REPORT_SECONDS = 30.0
_BACKOFF_MAX_SECONDS = 60.0


class Deliverer:
    """Delivers the claims of this instance; several instances share the work. With a concurrency of 0, only trims."""

    def __init__(
        self, outbox: Outbox, sender: Sender, *, concurrency: int, per_endpoint: int, picture_seconds: float
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._concurrency = concurrency
        self._per_endpoint = per_endpoint
        self._picture_seconds = picture_seconds
        self._attempts = set[asyncio.Task[None]]()
        self._woken = asyncio.Event()
        #: Held until a claim's attempts have begun.
        self._claiming = asyncio.Lock()
        self._stopping = False
        #: Something waited at the last claim, so that the end of an attempt may make room for it.
        self._more = False
        self._next_state = self._next_trim = 0.0

    def wake(self) -> None:
        """Claim soon: a callback was queued."""
        self._woken.set()

    async def run_forever(self) -> None:
        """Deliver until cancelled, whatever fails."""
        again = 1.0
        try:
            while True:
                try:
                    pause, again = await self.turn(), 1.0
                except ServiceUnavailable as error:
                    pause = again = min(again * 2, _BACKOFF_MAX_SECONDS)
                    log.warning("webhooks_postponed", error=str(error), next_try_seconds=pause)
                except Exception as error:
                    odd.note("part", "deliverer", error)
                    pause = _BACKOFF_MAX_SECONDS
                await asyncio.sleep(_BREATH_SECONDS)
                await self._rest(pause)
        finally:
            for attempt in self._attempts:
                attempt.cancel()

    async def turn(self) -> float:
        """Claim once and start the attempts. Return the seconds until the next claim is of use."""
        room = self._concurrency - len(self._attempts)
        if self._stopping:
            return NO_ENDPOINTS_SECONDS
        if not self._concurrency:
            await self._trim()
            return NO_ENDPOINTS_SECONDS
        if not room:
            return POLL_SECONDS  # the end of an attempt wakes
        async with self._claiming:
            claim = await self._outbox.claim(room, self._per_endpoint)
            for delivery in claim.deliveries:
                attempt = asyncio.create_task(self._deliver(delivery), name=f"webhook {delivery.id}")
                self._attempts.add(attempt)
                attempt.add_done_callback(self._ended)
        self._more = claim.wait_seconds is not None
        await self._show_state()
        await self._trim()
        return _pause(claim)

    async def drain(self, seconds: float) -> None:
        """Claim nothing more, and wait this long for a claim under way and for all attempts."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async with self._claiming:
                    pass
                if self._attempts:
                    await asyncio.wait(self._attempts)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        if self._more:
            self._woken.set()
        if not attempt.cancelled() and (error := attempt.exception()):
            odd.note("part", "deliverer", error)

    async def _deliver(self, delivery: Delivery) -> None:
        began_at = time.monotonic()
        event = Event(delivery.event_id, delivery.type, delivery.occurred_at, self._usable(delivery))
        answer = await self._sender.send(delivery.url, delivery.secrets or [], event)
        report = _report(delivery, answer)
        metrics.ATTEMPTS.labels(answer.result).inc()
        _log(delivery, answer, report, time.monotonic() - began_at)
        try:
            await retry_for(_REPORT_SECONDS)(self._outbox.report, report)
        except ServiceUnavailable as error:
            log.warning("webhook_not_reported", delivery=delivery.id, error=str(error))

    def _usable(self, delivery: Delivery) -> dict[str, Any]:
        """Return the data without an expired address, even if the picture is still kept."""
        # The session's end is known here, and not how long the outcome waited for the database before.
        age = datetime.now(UTC) - datetime.fromisoformat(delivery.occurred_at)
        late = delivery.data.get("image_url") and age.total_seconds() > self._picture_seconds
        return {**delivery.data, "image_url": None} if late else delivery.data

    async def _show_state(self) -> None:
        """Refresh the metrics, once a minute."""
        now = time.monotonic()
        if now >= self._next_state:
            self._next_state = now + _STATE_SECONDS
            metrics.show(await self._outbox.state())

    async def _trim(self) -> None:
        """Delete old deliveries once an hour, and more often while more of them remain."""
        now = time.monotonic()
        if now < self._next_trim:
            return
        self._next_trim = now + _TRIM_SECONDS
        trimmed = await self._outbox.trim()
        if trimmed.given_up or trimmed.deleted or trimmed.forgotten:
            self._next_trim = now + _STATE_SECONDS
            facts = {"given_up": trimmed.given_up, "forgotten_events": trimmed.forgotten}
            log.info("webhook_deliveries_trimmed", count=trimmed.deleted, **facts)


def _pause(claim: Claim) -> float:
    if not claim.endpoints:
        return NO_ENDPOINTS_SECONDS
    if claim.deliveries:
        return 0.0  # there may be more
    return POLL_SECONDS if claim.wait_seconds is None else min(max(claim.wait_seconds, 1.0), POLL_SECONDS)


def _report(delivery: Delivery, answer: Answer) -> Report:
    if answer.result == "delivered":
        return Report(delivery.id, ok=True, status=answer.status)
    gone = answer.result == "gone"
    retry = None if gone else wait_after(delivery.attempt, answer.retry_after)
    return Report(delivery.id, ok=False, gone=gone, status=answer.status, error=answer.error, retry_seconds=retry)


def _log(delivery: Delivery, answer: Answer, report: Report, seconds: float) -> None:
    facts = {
        "delivery": delivery.id,
        "event_id": delivery.event_id,
        "endpoint_id": delivery.endpoint_id,
        "type": delivery.type,
        "session_id": delivery.data.get("session_id"),
        "attempt": delivery.attempt,
        "status": answer.status,
        "seconds": round(seconds, 3),
    }
    if report.ok:
        log.info("webhook_delivered", **facts)
    elif report.gone:
        log.warning("webhook_endpoint_disabled", error=answer.error, **facts)
    elif report.retry_seconds is None:
        metrics.GIVEN_UP.inc()
        log.error("webhook_given_up", error=answer.error, **facts)
    else:
        log.warning("webhook_attempt_failed", error=answer.error, retry_seconds=round(report.retry_seconds, 1), **facts)
