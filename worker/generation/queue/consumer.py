"""Takes messages off the producers' list, no more than the pool can start now, and hands them to Celery."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable
from worker.generation import metrics, odd
from worker.generation.pauses.intake import Intake, State
from worker.generation.queue.claims import Claims
from worker.generation.queue.envelope import correlation
from worker.generation.queue.forwarding import Forwarding
from worker.generation.queue.unstarted import Unstarted
from worker.generation.retrying import MAX_WAIT_SECONDS
from worker.health import Health
from worker.logs import get_logger

log = get_logger(__name__)

#: Time that one wait for a message lasts: each costs three commands. A new pause shows in /health within this.
_BLOCK_SECONDS = 7
_FULL_SECONDS = 1.0
_PAUSE_SECONDS = 1.0


@dataclass(eq=False, repr=False)
class Consumer:
    """One per container. `slot_freed` is called when a generation of this container has ended."""

    claims: Claims
    unstarted: Unstarted
    forwarding: Forwarding
    slots: int
    intake: Intake
    health: Health
    memory_full: Callable[[], bool]
    #: Called with how many messages wait that could have the slots of bulk.
    on_wanted: Callable[[int], None] | None = field(default=None, init=False)
    #: The last look at the intake; None before the next round has to look.
    _state: State | None = field(default=None, init=False)
    #: Slots that are surely free; 0: Redis has to count.
    _room: int = field(default=0, init=False)
    _freed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def slot_freed(self) -> None:
        """Wake the consumer: a generation has ended and left its slot."""
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
                self.health.redis_seen, self.unstarted.doubtful = 0.0, True
                log.warning("consumer_backed_off", error=type(error).__name__, next_try_seconds=round(pause, 1))
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_WAIT_SECONDS)
            except Exception as error:
                odd.note("part", "consumer", error)
                self._state, self._room = None, 0
                await asyncio.sleep(_PAUSE_SECONDS)
            self.health.beat("consumer")

    async def _take_one(self) -> None:
        state = self._state or await self._look()
        if state.reason:
            self._state = None
            if not state.may_probe:
                await self.claims.lanes.sort_for(_PAUSE_SECONDS)  # bulk is known by its lane for as long as it waits
                return
        if self._running() and self.memory_full():  # a single generation must go on all the same
            self._state = None
            await asyncio.sleep(_PAUSE_SECONDS)
            return
        if not await self._has_room():
            self._state = None  # a pause shows in /health while all slots wait for its end
            await self._sort()
            return
        if state.pause and not await self.intake.pauses.take_probe(self.claims.instance):
            await self.claims.lanes.sort_for(_PAUSE_SECONDS)
            return
        payload = await self.claims.take(_BLOCK_SECONDS)
        self.unstarted.doubtful |= payload is not None
        now = await self._look()
        self.health.redis_seen = time.monotonic()
        if payload is None:
            return
        self._room -= 1
        if now.reason not in ("", state.reason):
            # The pause began during the wait: the message was not to be taken.
            if await self.claims.requeue(payload):
                log.info("message_given_back", **correlation(payload))
            return
        metrics.TAKEN.inc()
        await self.forwarding.forward(payload, state.reason)

    async def _look(self) -> State:
        self._state = state = await self.intake.state()
        shown, self.health.intake_paused = self.health.intake_paused, state.reason
        if state.reason != shown:
            log.warning("intake_paused" if state.reason else "intake_resumed", reason=state.reason or shown)
        return state

    async def _has_room(self) -> bool:
        """Tell if a slot is free; asks Redis only once all that were known to be free have been filled."""
        if self._room <= 0:
            # Cleared before the count, so that a slot that is freed in between is not missed.
            self._freed.clear()
            self._room = self.slots - await self.claims.count()
        return self._room > 0

    async def _sort(self) -> None:
        """Sort messages, so that the next free slot is given in turn; wait for it once all are sorted.

        Returns soon: with 100 000 messages this would take minutes, and the consumer would look hung.
        """
        end = time.monotonic() + _FULL_SECONDS
        if self.forwarding.has_bulk:
            wanted = await self.claims.lanes.wanted(self.claims.instance)
            self.forwarding.has_bulk = wanted >= 0
            if wanted > 0 and self.on_wanted:
                self.on_wanted(min(wanted, self.slots))
        while await self.claims.lanes.sort():
            if self._freed.is_set() or time.monotonic() > end:
                return
        with suppress(TimeoutError):
            async with asyncio.timeout(_FULL_SECONDS):
                await self._freed.wait()

    async def reforward(self) -> None:
        """Forward again what is claimed here but neither waits in Celery nor is worked on."""
        for payload in await self.unstarted.lost(self._running()):
            log.warning("message_forwarded_again", **correlation(payload))
            with odd.alone("message", correlation(payload)):
                await self.forwarding.forward(payload)

    def _running(self) -> int:
        celery = self.health.parts.get("celery")
        return int(celery.detail.get("active", 0)) if celery else 0
