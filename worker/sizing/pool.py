"""Threads that decode, detect and measure with a few native landmarkers, behind a bounded queue."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from worker import memory
from worker.sizing import metrics
from worker.sizing.delegate import Wanted, choose
from worker.sizing.landmarkers import Landmarkers
from worker.sizing.measurements import Measurer
from worker.sizing.pose import MODEL_PATH, verify_model

Result = TypeVar("Result")

_NICE = 5
#: A landmarker takes 70 MB, which an instance without size requests does not need.
_UNUSED_SECONDS = 300.0
_LOOK_SECONDS = 15.0


class Saturated(Exception):
    """The queue is full; the text says for how long to stay away."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"The service is busy. Please try again in {retry_after} s.")
        self.retry_after = retry_after


class Pool:
    """Work for the cores: at most `threads` pictures inferred at once, at most `queue` more waiting."""

    #: What a request costs one core; only for Retry-After.
    _SECONDS_EACH = 0.05

    def __init__(self, *, threads: int, queue: int, model_path: Path = MODEL_PATH, delegate: Wanted = "cpu") -> None:
        """`threads` 0 means one per core that this process may use."""
        self._threads = threads or len(os.sched_getaffinity(0))
        #: How many requests may wait or be measured at once, and how many do.
        self.limit = self._threads + queue
        self.pending = 0
        self._model_path, self._delegate = model_path, delegate
        self._measurer: Measurer | None = None
        # One more than landmarkers: while those keep the cores busy, the next picture is decoded. Threads start when
        # all others are busy.
        self._executor = ThreadPoolExecutor(self._threads + 1, thread_name_prefix="sizing", initializer=_give_way)
        self._landmarkers = Landmarkers(self._threads, model_path)

    async def load(self) -> None:
        """Load the model once, as a trial; raises ModelUnusable."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._load)

    @property
    def loaded(self) -> bool:
        return self._measurer is not None

    def check_free(self) -> None:
        """Raises Saturated when no more work would be taken now."""
        if self.pending >= self.limit:
            raise Saturated(retry_after=1 + round(self.limit * self._SECONDS_EACH / self._threads))

    async def run(self, work: Callable[[Landmarkers, Measurer], Result]) -> Result:
        """Run `work` in a thread; raises Saturated. When the caller stops waiting, work that waits is dropped."""
        self.check_free()
        self.pending += 1
        future = self._executor.submit(self._call, work, time.monotonic())
        future.add_done_callback(self._done(asyncio.get_running_loop()))
        return await asyncio.wrap_future(future)

    async def close_unused_forever(self) -> None:
        """Close landmarkers that had nothing to do for some minutes; the next request loads one in 0.1 s."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.get_running_loop().run_in_executor(self._executor, self._close_unused)

    async def close(self) -> None:
        """Drop what waits, let what runs end (it takes milliseconds), free the native memory."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)
        self._landmarkers.close()

    def _done(self, loop: asyncio.AbstractEventLoop) -> Callable[[object], None]:
        def count_down() -> None:
            self.pending -= 1

        def report(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(count_down)

        return report

    def _load(self) -> None:
        verify_model(self._model_path)
        if choose(self._delegate, self._model_path):
            self._landmarkers = Landmarkers(self._threads, self._model_path, gpu=True)
        self._landmarkers.prove()
        memory.give_back()
        self._measurer = Measurer()

    def _close_unused(self) -> None:
        if self._landmarkers.close_unused(_UNUSED_SECONDS):
            memory.give_back()

    def _call(self, work: Callable[[Landmarkers, Measurer], Result], asked: float) -> Result:
        metrics.waited(time.monotonic() - asked)
        if self._measurer is None:
            raise RuntimeError("work was given before the model was loaded")
        with metrics.step("inference"):
            return work(self._landmarkers, self._measurer)


def _give_way() -> None:
    """Lower the thread's priority: the event loop, with /health and the generations, goes first on the cores.

    On Linux a thread has a priority of its own, which the native threads that it starts inherit.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
