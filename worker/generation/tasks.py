"""The Celery process: its one task hands each message to a pipeline on one long-lived event loop.

Started by the supervisor, never by hand: a socket to the supervisor carries heartbeats one way and "release" the other.
"""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import uvloop
from celery import signals
from celery.bootsteps import StartStopStep

from worker import clients, logs
from worker.generation import metrics, openai_images
from worker.generation.breaker import Breaker
from worker.generation.celery_app import TASK, create_app, worker_arguments
from worker.generation.claims import Claims
from worker.generation.dead_letters import DeadLetters
from worker.generation.delivery import Delivery
from worker.generation.expiry import Expiry
from worker.generation.leases import Leases
from worker.generation.limiter import Limiter
from worker.generation.message import parse
from worker.generation.openai_images import ImageEditor
from worker.generation.paid_call import PaidCall
from worker.generation.pauses import Pauses
from worker.generation.pipeline import End, Pipeline
from worker.generation.pool import INSTANCE_VARIABLE, LINK_VARIABLE
from worker.generation.probes import Probes
from worker.generation.retrying import until_available
from worker.generation.sessions import Sessions
from worker.generation.settlement import Settlement
from worker.generation.starts import Starts
from worker.generation.steps import DOWNLOADS, Steps
from worker.generation.storage import Storage
from worker.metrics import tell
from worker.photos.fetcher import ImageFetcher
from worker.settings import Settings, load

log = logs.get_logger(__name__)

_BEAT_SECONDS = 1.0
#: How many others are taken before a message whose call has just failed.
_BEHIND = 10


class GenerationLoop:
    """The event loop of the Celery process, in a thread of its own, with every client that lives on it."""

    def __init__(self, settings: Settings, instance: str, link: socket.socket) -> None:
        self._settings = settings
        self._instance = instance
        self._link = link
        self._loop = uvloop.new_event_loop()
        self._built = threading.Event()
        self._active = 0
        #: When Celery's own loop was last seen working.
        self.celery_seen = time.monotonic()

    def start(self) -> None:
        """Returns once tasks may be run."""
        threading.Thread(target=self._run, name="generation-loop", daemon=True).start()
        self._built.wait()

    def celery_is_up(self, **_: Any) -> None:
        """Celery takes messages now; called in the main thread."""
        # Ctrl-C in a terminal reaches the whole group; stopping in order is the supervisor's business.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._loop.call_soon_threadsafe(partial(self._tell, event="up"))

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
        await self._build()
        self._built.set()
        # None of these ends by itself; without one of them the process would only look alive.
        await asyncio.gather(*self._background)

    async def _build(self) -> None:
        settings = self._settings
        redis = clients.redis_client(settings)
        pauses, breaker = Pauses(redis), Breaker(redis, settings)
        expiry = Expiry(pauses, settings)
        limiter = Limiter(redis, settings.openai_requests_per_minute, check=breaker.check)
        database = clients.http_client(clients.SUPABASE_TIMEOUT, connections=20)
        storage = clients.http_client(clients.STORAGE_TIMEOUT, connections=50)
        sessions = Sessions(clients.database_client(settings, database))
        self._claims = Claims(redis, self._instance, settings.lease_seconds)
        leases = Leases(redis, self._instance, settings.lease_seconds)
        fetcher = ImageFetcher(
            trusted_origins=settings.trusted_origins,
            max_bytes=settings.image_max_bytes,
            timeout_seconds=settings.fetch_timeout_seconds,
            downloads=DOWNLOADS,
        )
        editor = ImageEditor(
            openai_images.client(settings, limiter.sent),
            settings,
            wait_for_turn=limiter.acquire,
            on_answer=breaker.answered,
            fetch=fetcher.fetch,
        )
        bucket = Storage(
            clients.storage_client(settings, storage), settings.supabase_storage_bucket, settings.signed_url_seconds
        )
        settlement = Settlement(redis, sessions)
        probes = Probes(pauses, settings.quota_pause_seconds)
        starts = Starts(sessions, leases, settlement, expiry)
        self._pipeline = Pipeline(
            timeout_seconds=settings.generation_timeout_seconds,
            leases=leases,
            starts=starts,
            steps=Steps(
                fetcher=fetcher,
                paid_call=PaidCall(
                    settings,
                    editor=editor,
                    sessions=sessions,
                    starts=starts,
                    expiry=expiry,
                    breaker=breaker,
                    probes=probes,
                ),
                delivery=Delivery(bucket, probes),
                concurrency=settings.worker_concurrency,
                threads=ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="images"),
            ),
            settlement=settlement,
            breaker=breaker,
            probes=probes,
            dead_letters=DeadLetters(redis, settings.dead_letters_max),
        )
        metrics.IN_FLIGHT.set_function(lambda: self._active)
        metrics.LEASES.set_function(lambda: leases.held)
        reader, self._writer = await asyncio.open_connection(sock=self._link)
        self._background = [
            leases.renew_forever(),
            editor.models.watch_forever(),
            self._beat_forever(),
            self._obey(reader),
        ]

    async def _generate(self, payload: bytes, probe: str) -> None:
        self._active += 1
        message = parse(payload)
        with logs.bind(request_id=message.request_id, session_id=str(message.session_id), channel=message.channel):
            end = await self._pipeline.generate(message, payload, probe)
            await until_available(self._end, end, payload)
            self._active -= 1
            self._tell(event="end")

    async def _end(self, end: End, payload: bytes) -> None:
        if end is End.FINISHED:
            await self._claims.finish(payload)
        else:
            await self._claims.hand_back(payload, behind=_BEHIND if end is End.REQUEUE_BEHIND else 0)

    async def _beat_forever(self) -> None:
        while True:
            self._tell(event="beat", active=self._active, celery_silent=round(time.monotonic() - self.celery_seen, 1))
            await asyncio.sleep(_BEAT_SECONDS)

    async def _obey(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            if line.strip() == b"release":
                self._pipeline.release()
            elif line.strip() == b"metrics":
                self._tell(event="metrics", families=tell())
        # The supervisor is gone, and with it the heartbeat that protects what this process has claimed.
        log.critical("supervisor_lost")
        os._exit(1)

    def _tell(self, **event: Any) -> None:
        self._writer.write(json.dumps(event).encode() + b"\n")


def main() -> int:
    """Entry point of the Celery process."""
    settings = load()
    logs.configure(settings.log_level, "celery")
    instance = os.environ[INSTANCE_VARIABLE]
    loop = GenerationLoop(settings, instance, socket.socket(fileno=int(os.environ[LINK_VARIABLE])))
    loop.start()
    app = create_app(settings, instance)
    app.task(name=TASK)(loop.generate)
    app.steps["consumer"].add(_watched_by(loop))
    # The logging set-up is ours.
    signals.setup_logging.connect(lambda **_: None, weak=False)
    signals.worker_ready.connect(loop.celery_is_up, weak=False)
    # What is loaded by now stays for good; no full collection has to look through it in the middle of the work.
    gc.freeze()
    app.worker_main(worker_arguments(settings, instance))
    return 0


def _watched_by(loop: GenerationLoop) -> type[StartStopStep]:
    class Watch(StartStopStep):  # type: ignore[misc]  # Celery has no types
        """Shows once a second that Celery's own event loop turns; begun anew with every connection to Redis.

        A step of the worker would be begun once only, and Celery forgets all timers when it loses its connection.
        """

        requires = {"celery.worker.consumer.connection:Connection"}  # noqa: RUF012  # Celery's way

        def start(self, parent: Any) -> None:
            self.timer = parent.timer.call_repeatedly(_BEAT_SECONDS, self.seen)

        def stop(self, parent: Any) -> None:
            self.timer.cancel()

        def seen(self) -> None:
            loop.celery_seen = time.monotonic()

    return Watch


if __name__ == "__main__":
    sys.exit(main())
