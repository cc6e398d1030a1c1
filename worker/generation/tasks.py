"""The Celery process: its one task hands each message to a pipeline on one long-lived event loop.

Started by the supervisor, never by hand: `link` carries heartbeats one way and orders the other.
"""

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections import Counter
from functools import partial
from typing import Any

import uvloop
from celery import signals

from worker import logs
from worker.generation import metrics
from worker.generation.bootstrap import celery_side
from worker.generation.celery.app import TASK, create_app, turns, worker_arguments
from worker.generation.celery.link import (
    AskMetrics,
    Beat,
    CallbacksQueued,
    Ended,
    Event,
    Link,
    Metrics,
    Preempt,
    Release,
    Up,
)
from worker.generation.message import parse
from worker.generation.pipeline.ends import End
from worker.generation.retrying import until_available
from worker.metrics import tell
from worker.settings import Settings

log = logs.get_logger(__name__)

_BEAT_SECONDS = 1.0
#: How many others are taken before a message whose call has just failed.
_BEHIND = 10


class GenerationLoop:
    """The event loop of the Celery process, in a thread of its own, with every client that lives on it."""

    def __init__(self, settings: Settings, instance: str, link: socket.socket) -> None:
        self._settings = settings
        self._instance = instance
        self._socket = link
        self._loop = uvloop.new_event_loop()
        self._built = threading.Event()
        self._active = 0
        #: Messages that are worked on; Celery may have one twice, when an answer of Redis was lost.
        self._messages = Counter[bytes]()
        #: When Celery's own loop was last seen working.
        self._celery_seen = time.monotonic()

    def start(self) -> None:
        """Return once tasks may be run."""
        threading.Thread(target=self._run, name="generation-loop", daemon=True).start()
        self._built.wait()

    def celery_is_up(self, **_: Any) -> None:
        """Report that Celery takes messages now; called in the main thread."""
        # Ctrl-C in a terminal reaches the whole group; stopping in order is the supervisor's business.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._loop.call_soon_threadsafe(self._link.send, Up())

    def celery_turned(self) -> None:
        """Note that Celery's own loop works; called in the main thread."""
        self._celery_seen = time.monotonic()

    def generate(self, payload: str, probe: str) -> None:
        """Run one message to its end; called by a thread of Celery's pool."""
        asyncio.run_coroutine_threadsafe(self._generate(payload.encode(), probe), self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException:
            log.critical("generation_loop_crashed", exc_info=True)
            os._exit(1)

    async def _serve(self) -> None:
        side = celery_side(self._settings, self._instance)
        self._pipeline, self._claims = side.pipeline, side.claims
        metrics.IN_FLIGHT.set_function(lambda: self._active)
        metrics.LEASES.set_function(lambda: side.leases.held)
        self._link = await Link.open(self._socket)
        side.settlement.writer.on_callbacks = partial(self._link.send, CallbacksQueued())
        self._built.set()
        # None of these ends by itself; without one of them the process would only look alive.
        await asyncio.gather(*side.background, self._beat_forever(), self._obey())

    async def _generate(self, payload: bytes, probe: str) -> None:
        self._active += 1
        self._messages[payload] += 1
        try:
            message = parse(payload)
            with logs.bind(request_id=message.request_id, session_id=str(message.session_id), channel=message.channel):
                end = await self._pipeline.generate(message, payload, probe)
                await until_available(self._end, end, payload)
        except Exception:
            # The sweep ends the session; the message would end the same way again.
            log.exception("generation_crashed")
            await until_available(self._claims.finish, payload)
        finally:
            self._active -= 1
            self._messages -= Counter([payload])
            self._link.send(Ended())

    async def _end(self, end: End, payload: bytes) -> None:
        if end is not End.FINISHED:
            await self._claims.requeue_always(payload, behind=_BEHIND if end is End.REQUEUE_BEHIND else 0)
        elif self._messages[payload] == 1 or (await self._claims.held()).count(payload) >= self._messages[payload]:
            await self._claims.finish(payload)

    async def _beat_forever(self) -> None:
        while True:
            self._link.send(Beat(self._active, round(time.monotonic() - self._celery_seen, 1)))
            await asyncio.sleep(_BEAT_SECONDS)

    async def _obey(self) -> None:
        async for order in self._link.events():
            self._follow(order)
        # The supervisor is gone, and with it the heartbeat that protects what this process has claimed.
        log.critical("supervisor_lost")
        os._exit(1)

    def _follow(self, order: Event) -> None:
        match order:
            case Release():
                self._pipeline.release()
            case Preempt(count):
                self._pipeline.preempt(count)
            case AskMetrics():
                self._link.send(Metrics(tell()))


def run(settings: Settings, instance: str, link: socket.socket) -> None:
    """Be the Celery process; returns once the process has drained."""
    logs.configure(settings.log_level, "celery", settings.region)
    loop = GenerationLoop(settings, instance, link)
    loop.start()
    app = create_app(settings, instance)
    app.task(name=TASK)(loop.generate)
    app.steps["consumer"].add(turns(loop.celery_turned, _BEAT_SECONDS))
    # The logging set-up is ours.
    signals.setup_logging.connect(lambda **_: None, weak=False)
    signals.worker_ready.connect(loop.celery_is_up, weak=False)
    # All that is loaded by now stays for good; no full collection has to look through it in the middle of the work.
    gc.freeze()
    app.worker_main(worker_arguments(settings, instance))
