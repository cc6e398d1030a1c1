"""`wearon-worker run`: starts the parts in order, watches them, and drains on SIGTERM.

Parts: the Celery process, the consumer, the sweeper, the settler and the HTTP server. If one dies or hangs the
container's process ends with a reason, and Docker starts it again.
"""

import asyncio
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from worker import clients
from worker.errors import PartEnded, WorkerError
from worker.generation import keys
from worker.generation.celery_app import create_app as create_celery
from worker.generation.claims import Claims
from worker.generation.consumer import Consumer
from worker.generation.dead_letters import DeadLetters
from worker.generation.intake import Intake
from worker.generation.leases import Leases
from worker.generation.limiter import Limiter
from worker.generation.message import identify
from worker.generation.pauses import Pauses
from worker.generation.pool import Child, Pool
from worker.generation.queue_metrics import Shared
from worker.generation.retrying import AWAY, retry_for, until_available
from worker.generation.sessions import MIGRATION, MIGRATION_VERSION, Sessions
from worker.generation.settlement import Settlement
from worker.generation.sweep import Sweeper
from worker.health import Health
from worker.http import container_metrics
from worker.http.metrics_page import Page
from worker.http.server import HttpServer
from worker.logs import get_logger
from worker.settings import Settings
from worker.watch import Watch

log = get_logger(__name__)

#: What a released generation needs to write its outcome or to hand itself back.
_RELEASE_SECONDS = 20.0
_HTTP_STOP_SECONDS = 6.0
_FAREWELL_SECONDS = 5.0
_CANCEL_SECONDS = 1.0
#: PostgREST learns of a fresh migration within this.
_SCHEMA_PATIENCE_SECONDS = 10.0
#: The first sweep comes before the first message, but must not keep it waiting for ever.
_FIRST_SWEEP_SECONDS = 10.0


class Supervisor:
    """One container's worker."""

    def __init__(self, settings: Settings, child: Child) -> None:
        self._settings = settings
        self._instance = child.instance
        self._health = Health()
        self._redis = clients.redis_client(settings)
        self._database = clients.http_client(clients.SUPABASE_TIMEOUT, connections=10)
        database = clients.database_client(settings, self._database)
        self._sessions = Sessions(database)
        self._claims = Claims(self._redis, self._instance, settings.lease_seconds)
        self._settlement = Settlement(self._redis, self._sessions)
        dead_letters = DeadLetters(self._redis, settings.dead_letters_max)
        self._consumer = Consumer(
            claims=self._claims,
            celery=create_celery(settings, self._instance),
            slots=settings.slots,
            intake=Intake(Pauses(self._redis), settings.intake_hold_file),
            dead_letters=dead_letters,
            sessions=self._sessions,
            settlement=self._settlement,
            health=self._health,
        )
        self._sweeper = Sweeper(
            claims=self._claims,
            sessions=self._sessions,
            settlement=self._settlement,
            dead_letters=dead_letters,
            orphan_grace_seconds=settings.orphan_grace_seconds,
            on_progress=self._sweeper_goes_on,
        )
        self._watch = Watch(
            settings,
            self._health,
            claims=self._claims,
            sessions=self._sessions,
            database=database,
            sweeper=self._sweeper,
            consumer=self._consumer,
        )
        self._pool = Pool(child, self._health, self._consumer.slot_freed)
        container_metrics.watch(settings, self._health, lambda: self._pool.pid)
        limiter = Limiter(self._redis, settings.openai_requests_per_minute)
        self._http = HttpServer(settings, self._health, Page(Shared(self._claims, limiter), self._pool.metrics))
        self._signals = asyncio.Queue[signal.Signals]()

    async def run(self) -> None:
        """Returns after an orderly stop; raises WorkerError when a part ended by itself."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signals.put_nowait, number)
        log.info("worker_starting", instance=self._instance, concurrency=self._settings.worker_concurrency)
        http = self._part("http", self._http.serve_until_stopped())
        parts = {http}
        await self._pool.connect()
        celery = self._part("celery", self._pool.watch())
        starting = asyncio.create_task(self._start(parts))
        stop = asyncio.create_task(self._signals.get())
        try:
            parts |= {celery, self._part("health", self._watch.check_forever())}
            await self._until_stopped(parts, starting, stop)
            await cancel({starting})
            await self._drain(parts, celery)
        except PartEnded:
            self._pool.kill()
            await cancel({*parts, starting} - {http})
            await self._abandon()
            raise
        finally:
            self._pool.kill()
            self._http.should_exit = True
            await asyncio.wait({http}, timeout=_HTTP_STOP_SECONDS)
            await cancel({*parts, starting, stop})
            await self._redis.aclose()
            await self._database.aclose()
        log.info("worker_stopped")

    async def _until_stopped(
        self, parts: set[asyncio.Task[Any]], starting: asyncio.Task[None], stop: asyncio.Task[Any]
    ) -> None:
        while True:
            watched = {*parts, stop} if starting.done() else {*parts, stop, starting}
            await asyncio.wait(watched, return_when="FIRST_COMPLETED")
            if stop.done():
                return
            if starting.done():
                starting.result()
            for part in parts:
                if part.done():
                    raise PartEnded(f"{part.get_name()} ended: {_how(part)}")

    async def _start(self, parts: set[asyncio.Task[Any]]) -> None:
        """What has to be true before the first message is taken."""
        await self._watch.join()
        self._health.redis_connected = True
        await self._check_functions()
        try:
            await retry_for(_FIRST_SWEEP_SECONDS)(self._watch.sweep)
        except AWAY as error:
            log.warning("sweep_failed", error=str(error))
        await self._pool.wait_until_up()
        parts.add(self._part("consumer", self._consumer.run()))
        parts.add(self._part("sweeper", self._watch.sweep_forever()))
        parts.add(self._part("settler", self._settlement.settle_forever()))
        parts.add(self._part("heartbeat", self._watch.heartbeat_forever()))
        parts.add(self._part("audit", self._watch.audit_forever()))
        self._health.state = "ready"
        log.info("worker_ready", instance=self._instance)

    async def _check_functions(self) -> None:
        installed = await until_available(self._sessions.installed, _SCHEMA_PATIENCE_SECONDS)
        if missing := installed.missing:
            raise WorkerError(
                f"the database lacks these SQL functions, or has other versions of them: {', '.join(missing)}. "
                f'Install them with: psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f {MIGRATION}'
            )
        if installed.newer:
            log.info("functions_newer", installed_version=installed.version, needed_version=MIGRATION_VERSION)
        self._health.database_connected = True

    async def _drain(self, parts: set[asyncio.Task[Any]], celery: asyncio.Task[str]) -> None:
        """Take nothing new, let running generations end, hand back what was not begun."""
        self._health.state = "draining"
        begun = time.monotonic()
        log.info("drain_begun", timeout_seconds=self._settings.drain_timeout_seconds)
        self._pool.stop()
        await cancel({part for part in parts if part.get_name() in ("consumer", "sweeper")})
        parts.add(self._part("returner", self._return_unstarted()))
        again = asyncio.create_task(self._signals.get())
        await asyncio.wait({celery, again}, timeout=self._settings.drain_timeout_seconds, return_when="FIRST_COMPLETED")
        if not celery.done():
            log.warning("drain_cut_short", why="second signal" if again.done() else "drain time-out")
            self._pool.let_go()
            await asyncio.wait({celery}, timeout=_RELEASE_SECONDS)
        again.cancel()
        self._pool.kill()
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._drop_leases()
                returned = await self._claims.give_back_all()
                await self._claims.leave()
                log.info("drain_ended", messages_given_back=returned, seconds=round(time.monotonic() - begun, 1))

    def _sweeper_goes_on(self) -> None:
        # The first sweep belongs to the start, which may take longer than a part may be silent.
        if "sweeper" in self._health.parts:
            self._health.beat("sweeper")

    async def _return_unstarted(self) -> None:
        with suppress(RedisError, OSError):
            await self._consumer.return_unstarted()

    async def _abandon(self) -> None:
        """Say at once that this instance is dead, so that its messages and sessions need not wait for time-outs."""
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._drop_leases()
                await self._redis.delete(keys.alive(self._instance))

    async def _drop_leases(self) -> None:
        claimed = [known.id for payload in await self._claims.held() if (known := identify(payload))]
        await Leases.drop_all(self._redis, self._instance, claimed)

    def _part(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.create_task(work, name=name)


async def cancel(tasks: set[asyncio.Task[Any]]) -> None:
    """Returns when all have ended, however often that takes.

    Python 3.11's `asyncio.wait_for`, which redis-py writes with, loses a cancellation that comes as the writing ends.
    """
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)


def _how(part: asyncio.Task[Any]) -> str:
    error = part.exception()
    if error is None:
        return str(part.result() or "it returned")
    if not isinstance(error, WorkerError):
        log.error("part_crashed", part=part.get_name(), exc_info=error)
    return str(error) or type(error).__name__


def run(settings: Settings, child: Child) -> int:
    """Run the worker, whose Celery process has been started, until it is told to stop; -> the exit code."""
    try:
        asyncio.run(Supervisor(settings, child).run())
    except WorkerError as error:
        log.critical("worker_ended", reason=str(error))
        return 1
    return 0
