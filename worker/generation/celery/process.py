"""The supervisor's handle of the Celery process: forks the process, hears its events, and ends it."""

import asyncio
import ctypes
import gc
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any
from uuid import uuid4

from worker import memory
from worker.generation.celery.link import AskMetrics, Beat, CallbacksQueued, Ended, Link, Metrics, Preempt, Release, Up
from worker.health import Health
from worker.settings import Settings

#: Loaded once for both processes: the pages of a fork are shared until one side writes. What only the Celery process
#: uses is here, too: after the fork its objects would go into the gaps of shared pages.
_SHARED = (
    "worker.generation.tasks",
    "worker.generation.celery.transport",
    "celery.bin.worker",
    "celery.apps.worker",
    "celery.concurrency.thread",
    "celery.worker.consumer",
)
_NAME = b"wearon-celery"
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
#: glibc would give every picture's memory back to the kernel and take it again for the next one: 17 ms of page faults
#: per generation.
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": 128 << 20, "MALLOC_MMAP_THRESHOLD_": 32 << 20}
#: The process answers in milliseconds unless its loop hangs.
_METRICS_SECONDS = 1.0
_END_SECONDS = 0.02


class CeleryProcess:
    """Starts the process at once: the process loads its own modules while the supervisor loads its own.

    Built before this process has a thread or an event loop: neither survives a fork.
    """

    def __init__(self, settings: Settings) -> None:
        #: Unique per start: a crashed predecessor's claims must look dead.
        self.instance = f"{socket.gethostname()}-{uuid4().hex[:8]}"
        self._socket, theirs = socket.socketpair()
        for module in _SHARED:
            import_module(module)
        # A collection in one of the processes would write to every object's page.
        gc.collect()
        gc.freeze()
        self._process = multiprocessing.get_context("fork").Process(
            target=_be_celery, args=(settings, self.instance, self._socket, theirs)
        )
        self._process.start()
        theirs.close()
        self._link: Link | None = None
        self._up = asyncio.Event()
        self._metrics: list[Any] = []
        self._metrics_came = asyncio.Event()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid or 0

    async def watch(
        self, health: Health, slot_freed: Callable[[], None], callbacks_queued: Callable[[], None] | None = None
    ) -> str:
        """Read events until the process ends. Return the reason of its end. Call `slot_freed` after each generation."""
        self._link = await Link.open(self._socket)
        async for event in self._link.events():
            match event:
                case Ended():
                    slot_freed()
                case CallbacksQueued() if callbacks_queued:
                    callbacks_queued()
                case Up():
                    self._up.set()
                case Metrics(families):
                    self._metrics = families
                    self._metrics_came.set()
                case Beat(active, silent):
                    health.beat("celery", active=active, loop_silent_seconds=silent)
        # The process has closed its end and is about to be gone.
        while (code := self._process.exitcode) is None:  # noqa: ASYNC110  # the kernel's event, not ours
            await asyncio.sleep(_END_SECONDS)
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    async def wait_until_up(self) -> None:
        """Return once the process can run generations."""
        await self._up.wait()

    async def metrics(self) -> list[Any]:
        """The values of the process's metrics; the last known values while its loop hangs.

        So its counters never go back while it lives, and the container ends when it does not.
        """
        self._metrics_came.clear()
        if self._link and self._link.send(AskMetrics()):
            with suppress(TimeoutError):
                async with asyncio.timeout(_METRICS_SECONDS):
                    await self._metrics_came.wait()
        return self._metrics

    def drain(self) -> None:
        """Take nothing more, finish what runs, then end."""
        self._signal(signal.SIGTERM)

    def release(self) -> None:
        """Requeue or fail what runs."""
        if self._link:
            self._link.send(Release())

    def preempt(self, count: int) -> None:
        """Requeue so many generations of bulk that have paid for nothing."""
        if self._link:
            self._link.send(Preempt(count))

    def kill(self) -> None:
        """End the process at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)


def _be_celery(settings: Settings, instance: str, supervisors: socket.socket, own: socket.socket) -> None:
    """Become the Celery process."""
    supervisors.close()  # the end of the supervisor would not be noticed
    kernel = ctypes.CDLL(None)
    kernel.prctl(_PR_SET_NAME, _NAME)
    # The end of the link ends this process, too, but not while its loop hangs.
    kernel.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    memory.tune(_ALLOCATOR)
    import_module("worker.generation.tasks").run(settings, instance, own)
