"""Takes messages off the producers' list, no more than the pool can start now, and hands them to Celery."""

import asyncio
import time
from collections.abc import Callable

from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from worker.errors import InvalidMessage, ServiceUnavailable
from worker.generation import metrics, odd
from worker.generation.celery.app import TASK
from worker.generation.message import parse
from worker.generation.pauses.intake import Intake, State
from worker.generation.queue.claims import Claims
from worker.generation.queue.envelope import correlation
from worker.generation.queue.refusal import Refusal
from worker.generation.queue.unstarted import Unstarted
from worker.generation.retrying import MAX_WAIT_SECONDS
from worker.health import Health
from worker.logs import get_logger

log = get_logger(__name__)

#: How long one wait for a message lasts: each costs three commands. The same pause shows in /health within this.
_BLOCK_SECONDS = 7
_FULL_SECONDS = 1.0
_PAUSE_SECONDS = 1.0


class Consumer:
    """One per container. `slot_freed` is called when a generation of this container has ended."""

    def __init__(
        self,
        *,
        claims: Claims,
        unstarted: Unstarted,
        celery: Celery,
        slots: int,
        intake: Intake,
        refusal: Refusal,
        health: Health,
        memory_full: Callable[[], bool],
    ) -> None:
        self._claims = claims
        self.unstarted = unstarted
        self._celery = celery
        self._slots = slots
        self._intake = intake
        self._refusal = refusal
        self._health = health
        self._memory_full = memory_full
        #: Called with how many messages wait that could have the slots of bulk.
        self.on_wanted: Callable[[int], None] = lambda count: None
        #: Bulk may run here.
        self._bulk = False
        #: The last look at the intake; None before the next round has to look.
        self._state: State | None = None
        #: Slots that are surely free; 0: Redis has to count.
        self._room = 0
        self._freed = asyncio.Event()

    def slot_freed(self) -> None:
        """A generation has ended: there is room for another one."""
        self._freed.set()

    async def run(self) -> None:
        """Take and forward until cancelled; what is taken at that moment stays on the claimed list."""
        pause = 0.1
        while True:
            try:
                await self._take_one()
                pause = 0.1
            except (RedisError, OSError, ServiceUnavailable) as error:
                self._state, self._room = None, 0
                self._health.redis_seen, self.unstarted.doubtful = 0.0, True
                log.warning("consumer_backed_off", error=type(error).__name__, next_try_seconds=round(pause, 1))
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_WAIT_SECONDS)
            except Exception as error:
                odd.note("part", "consumer", error)
                self._state, self._room = None, 0
                await asyncio.sleep(_PAUSE_SECONDS)
            self._health.beat("consumer")

    async def _take_one(self) -> None:
        state = self._state or await self._look()
        if state.reason:
            self._state = None
            if not state.may_probe:
                await self._claims.lanes.sort_for(_PAUSE_SECONDS)  # bulk is known by its lane for as long as it waits
                return
        if self._running() and self._memory_full():  # a single generation must go on all the same
            self._state = None
            await asyncio.sleep(_PAUSE_SECONDS)
            return
        if not await self._has_room():
            self._state = None  # a pause shows in /health while all slots wait for its end
            await self._sort()
            return
        if state.pause and not await self._intake.pauses.take_probe(self._claims.instance):
            await self._claims.lanes.sort_for(_PAUSE_SECONDS)
            return
        payload = await self._claims.take(_BLOCK_SECONDS)
        self.unstarted.doubtful |= payload is not None
        now = await self._look()
        self._health.redis_seen = time.monotonic()
        if payload is None:
            return
        self._room -= 1
        if now.reason not in ("", state.reason):
            # The pause began during the wait: the message was not to be taken.
            if await self._claims.requeue(payload):
                log.info("message_given_back", **correlation(payload))
            return
        metrics.TAKEN.inc()
        await self.forward(payload, state.reason)

    async def _look(self) -> State:
        self._state = state = await self._intake.state()
        self._show(state.reason)
        return state

    async def _has_room(self) -> bool:
        """Tell if a slot is free; asks Redis only once all that were known to be free have been filled."""
        if self._room <= 0:
            # Cleared before the count, so that a slot that is freed in between is not missed.
            self._freed.clear()
            self._room = self._slots - await self._claims.count()
        return self._room > 0

    async def _sort(self) -> None:
        """Sort messages, so that the next free slot is given in turn; wait for it once all are sorted.

        Returns soon: with 100 000 messages this would take minutes, and the consumer would look hung.
        """
        end = time.monotonic() + _FULL_SECONDS
        if self._bulk:
            wanted = await self._claims.lanes.wanted(self._claims.instance)
            self._bulk = wanted >= 0
            if wanted > 0:
                self.on_wanted(min(wanted, self._slots))
        while await self._claims.lanes.sort():
            if self._freed.is_set() or time.monotonic() > end:
                return
        await _wait(self._freed, _FULL_SECONDS)

    def _show(self, reason: str) -> None:
        if reason != self._health.intake_paused:
            log.warning("intake_paused" if reason else "intake_resumed", reason=reason or self._health.intake_paused)
            self._health.intake_paused = reason

    async def forward(self, payload: bytes, probe: str = "") -> None:
        """Hand a claimed message to this container's pool, or to the dead letters when it cannot be used.

        `probe` is the reason of the pause that the message is to probe. An unusable one leaves the probe to the next.
        """
        try:
            message = parse(payload)
        except InvalidMessage as error:
            await self._refusal.refuse(payload, error)
            return
        except Exception as error:
            odd.note("message", correlation(payload), error)
            await self._refusal.refuse(
                payload, InvalidMessage("invalid_field", f"cannot be read: {type(error).__name__}")
            )
            return
        session = str(message.session_id)
        self._bulk |= message.is_bulk
        if probe and not await self._intake.pauses.give_probe(self._claims.instance, session):
            probe = ""  # the pause has ended, or another instance's message probes
        log.info(
            "message_taken", request_id=message.request_id, session_id=session, **({"probe": probe} if probe else {})
        )
        await asyncio.to_thread(self._send, payload.decode(), probe)

    def _send(self, payload: str, probe: str) -> None:
        try:
            # Task events and Celery's own log lines say what `argsrepr` does, not the prompt and the signed addresses.
            self._celery.send_task(TASK, [payload, probe], retry=False, argsrepr="(message)")
        except (KombuError, OSError) as error:
            # It stays claimed; `reforward` finds it when Redis is back.
            raise ServiceUnavailable(f"Celery did not take the message: {type(error).__name__}") from error

    async def reforward(self) -> None:
        """Forward again what is claimed here but neither waits in Celery nor is worked on."""
        for payload in await self.unstarted.lost(self._running()):
            log.warning("message_forwarded_again", **correlation(payload))
            with odd.alone("message", correlation(payload)):
                await self.forward(payload)

    def _running(self) -> int:
        celery = self._health.parts.get("celery")
        return int(celery.detail.get("active", 0)) if celery else 0


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
