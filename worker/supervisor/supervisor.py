"""`wearon-worker run`: starts the parts in order, watches them, and drains on SIGTERM.

Parts: HTTP server, Celery process, health check, consumer, sweeper, settler, heartbeat, deliverer of callbacks, and the
schedules of `bootstrap`. If a part dies or hangs, the process ends with a reason, and Docker starts the container anew.
"""

import asyncio
import signal
import time
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from worker.errors import PartEnded, WorkerError
from worker.generation import bootstrap, odd
from worker.generation.celery.process import CeleryProcess
from worker.generation.queue import departure
from worker.generation.retrying import AWAY, retry_for
from worker.health import Health
from worker.http import container_metrics
from worker.http.metrics_page import Page
from worker.http.server import HttpServer
from worker.logs import get_logger
from worker.settings import Settings
from worker.supervisor.health_check import HealthCheck
from worker.supervisor.parts import Parts, cancel
from worker.webhooks.bootstrap import deliverer

log = get_logger(__name__)

#: A released generation writes its outcome or is requeued within this.
_RELEASE_SECONDS = 20.0
_HTTP_STOP_SECONDS = 6.0
#: Left to callbacks under way at the end; a slower one is sent again by another worker, with the same id.
_CALLBACK_SECONDS = 3.0
#: The first sweep comes before the first message, but must not keep it waiting for ever.
_FIRST_SWEEP_SECONDS = 10.0


def run(settings: Settings, celery: CeleryProcess) -> int:
    """Run the worker, whose Celery process has started, until a signal stops it. Return the exit code."""
    try:
        asyncio.run(Supervisor(settings, celery).run())
    except WorkerError as error:
        log.critical("worker_ended", reason=str(error))
        return 1
    return 0


class Supervisor:
    """One container's worker."""

    def __init__(self, settings: Settings, celery: CeleryProcess) -> None:
        self._settings = settings
        self._celery = celery
        self._health = Health()
        self._queue = bootstrap.queue_side(settings, celery.instance, self._health)
        self._deliverer = deliverer(settings, self._queue.connections)
        self._queue.settlement.writer.on_callbacks = self._deliverer.wake
        self._queue.consumer.on_wanted = celery.preempt
        self._http = HttpServer(settings, self._health, Page(self._queue.metrics, celery.metrics))
        self._parts = Parts()
        self._signals = asyncio.Queue[signal.Signals]()
        container_metrics.watch(settings, self._health, lambda: celery.pid)

    async def run(self) -> None:
        """Return after an orderly stop; raise WorkerError when a part ended by itself."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signals.put_nowait, number)
        log.info("worker_starting", instance=self._celery.instance, concurrency=self._settings.worker_concurrency)
        http = self._parts.start("http", self._http.serve_until_stopped())
        watch = self._celery.watch(self._health, self._queue.consumer.slot_freed, self._deliverer.wake)
        celery = self._parts.start("celery", watch)
        check = HealthCheck(self._health, self._queue.claims.prove, self._queue.sessions.usable)
        self._parts.start("health", check.run_forever())
        starting = asyncio.create_task(self._start())
        stop = asyncio.create_task(self._signals.get())
        try:
            await self._parts.watch(starting, stop)
            await cancel({starting})
            await self._drain(celery)
        except PartEnded:
            self._celery.kill()
            await cancel({starting})
            await self._parts.cancel_all(but="http")
            await departure.abandon(self._queue.claims, self._queue.ownership)
            raise
        finally:
            self._celery.kill()
            self._http.should_exit = True
            await asyncio.wait({http}, timeout=_HTTP_STOP_SECONDS)
            await cancel({starting, stop})
            await self._parts.cancel_all()
            await self._queue.connections.aclose()
        log.info("worker_stopped")

    async def _start(self) -> None:
        """Do everything that has to be done before the first message is taken."""
        queue = self._queue
        await queue.heartbeat.join()
        self._health.redis_connected = True
        await queue.sessions.require_functions()
        self._health.database_connected = True
        try:
            await retry_for(_FIRST_SWEEP_SECONDS)(queue.sweeps.sweep)
        except AWAY as error:
            log.warning("sweep_failed", error=str(error))
        except Exception as error:
            odd.note("part", "sweeper", error)
        await self._celery.wait_until_up()
        self._parts.start("consumer", queue.consumer.run())
        self._parts.start("sweeper", queue.sweeps.run_forever())
        self._parts.start("settler", queue.settlement.settle_forever())
        self._parts.start("heartbeat", queue.heartbeat.beat_forever())
        for name, schedule in queue.schedules.items():
            self._parts.start(name, schedule.run_forever())
        self._parts.start("deliverer", self._deliverer.run_forever())
        self._health.state = "ready"
        log.info("worker_ready", instance=self._celery.instance)

    async def _drain(self, celery: asyncio.Task[Any]) -> None:
        """Take nothing new, let running generations end, requeue what was not started."""
        self._health.state = "draining"
        began_at, limit = time.monotonic(), self._settings.drain_timeout_seconds
        log.info("drain_begun", timeout_seconds=limit)
        self._celery.drain()
        await self._parts.cancel("consumer", "sweeper")
        sent = asyncio.create_task(self._queue.consumer.forwarding.sent())
        self._celery.preempt(self._settings.slots)  # bulk may wait for calls of others for hours
        self._parts.start("returner", self._requeue_unstarted())
        again = asyncio.create_task(self._signals.get())
        await asyncio.wait({celery, again}, timeout=limit, return_when="FIRST_COMPLETED")
        if not celery.done():
            log.warning("drain_cut_short", why="second signal" if again.done() else "drain time-out")
            self._celery.release()
            await asyncio.wait({celery}, timeout=_RELEASE_SECONDS)
        again.cancel()
        self._celery.kill()
        await self._deliverer.drain(_CALLBACK_SECONDS)
        await sent
        await self._parts.cancel("heartbeat")  # it would join again
        requeued = await departure.leave(self._queue.claims, self._queue.ownership)
        if requeued is not None:
            log.info("drain_ended", messages_given_back=requeued, seconds=round(time.monotonic() - began_at, 1))

    async def _requeue_unstarted(self) -> None:
        with suppress(RedisError, OSError):
            await self._queue.consumer.unstarted.requeue()
