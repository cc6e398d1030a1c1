"""A worker's whole life with secrets in everything that reaches it, for the tests of what it then logs."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

import httpx

from tests.integration.conftest import QUICK
from tests.integration.worker_process import ENDED, WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued

REDIS_PASSWORD = "secret-redis-password"
PROMPT = "secret-prompt"
EMAIL = "secret.person@example.com"
TOKEN = "secret-token"
#: None of these may be logged; the service key, OpenAI's key and stored signatures come beside them.
SECRETS = (REDIS_PASSWORD, PROMPT, "secret.person", TOKEN, "secret-user", "secret-password")

_FAULTS = (
    "unauthorized", "moderation_blocked", "invalid_request", "garbage", "empty", "not_image", "not_base64",
    "rate_limited", "drop", "drop_midway", "server_error",
)  # fmt: skip
_WAITED_FOR = ("unauthorized", "drop", "drop_midway", "server_error")


class Life:
    """The output of a worker that saw everything, by what happened."""

    def __init__(self, world: Sandbox) -> None:
        self._world = world
        self.queued: list[Queued] = []
        self.requests: list[str] = []
        address = f"redis://worker:{REDIS_PASSWORD}@127.0.0.1:{world.valkey.port}/0"
        self._environment = {**QUICK, "REDIS_URL": address, "LEASE_SECONDS": "3", "GENERATION_TIMEOUT_SECONDS": "20"}
        self.lines: list[str] = []

    def live(self) -> None:
        """Run all scenes; `lines` holds the output."""
        world = self._world
        world.reset()
        world.openai.set(compose=False)
        self._let_in()
        with self._worker() as worker:
            self._generations(worker)
            self._unusable(worker)
            self._http(worker)
            self._outages(worker)
            self._drain(worker)
        with self._worker() as worker:
            self._crash(worker)
        self._wrong_start()

    @contextmanager
    def _worker(self) -> Iterator[WorkerProcess]:
        with WorkerProcess(self._world, **self._environment) as worker:
            try:
                yield worker
            finally:
                self.lines += worker.output().splitlines()

    def _let_in(self) -> None:
        """A user of Redis with a password; gone when Redis starts again."""
        self._world.redis.execute_command("ACL", "SETUSER", "worker", "on", f">{REDIS_PASSWORD}", "~*", "&*", "+@all")

    def _queue(self, prompt: str = PROMPT, *, images: tuple[str, ...] = (), email: bool = False) -> Queued:
        producer = self._world.producer
        if email:
            store = producer.store()
            producer.shopper(store, EMAIL)
            queued = producer.b2b(store, paid_by="shopper", shopper_email=EMAIL, prompt=prompt, images=images)
        else:
            queued = producer.b2c(prompt=prompt, images=images)
        self.queued.append(queued)
        return queued

    def _ended(self, *queued: Queued, seconds: float = 40) -> None:
        def is_over(one: Queued) -> bool:
            return self._world.session(one.channel, one.session_id)["status"] in ENDED

        for one in queued:
            wait_for(partial(is_over, one), seconds, f"{one.session_id} did not end")

    def _generations(self, worker: WorkerProcess) -> None:
        """Good generations, and one for each answer of OpenAI."""
        signed = self._world.photos.url("person.jpg") + f"?token={TOKEN}"
        self._ended(self._queue(images=(signed,)), self._queue(email=True))
        for fault in _FAULTS:
            # Once, where a generation waits until it passes.
            times = 1 if fault in _WAITED_FOR else None
            self._world.openai.fault(fault, contains=f"{PROMPT}-{fault}.", times=times)
        self._ended(*[self._queue(f"{PROMPT}-{fault}.", email=True) for fault in _FAULTS])

    def _unusable(self, worker: WorkerProcess) -> None:
        """Pictures and messages that cannot be used, and a storage that refuses."""
        put = self._world.photos.put
        urls = (
            put("damaged.jpg", b"no picture", content_type="image/jpeg"),
            put("gone.jpg", status=404),
            "http://169.254.169.254/latest",
            "http://nowhere.invalid/photo.jpg",
            "http://secret-user:secret-password@example.com/photo.jpg",
            "ftp://example.com/photo.jpg",
        )
        self._ended(*[self._queue(images=(f"{url}?token={TOKEN}",)) for url in urls])
        self._world.gateway.fault("unavailable", on="storage/upload", status=400, times=1)
        self._ended(self._queue())
        self._world.gateway.fault("unavailable", on="storage/sign", times=2)
        self._ended(self._queue())
        changes: dict[str, object] = {"created_at": EMAIL, "version": 2, "user_id": str(uuid4()), "image_urls": []}
        for field, value in changes.items():
            queued = self._world.producer.b2c(push=False, prompt=PROMPT)
            self.queued.append(queued)
            self._world.producer.push({**queued.message, field: value})
            self._ended(queued)
        self._world.producer.push(f'{{"prompt": "{PROMPT}", "created_at": "{EMAIL}"')
        wait_for(lambda: worker.logs("message_refused", reason="not_json"), 10, "it was not refused")

    def _http(self, worker: WorkerProcess) -> None:
        """Requests of every kind, known by their ids."""
        photos = self._world.photos
        bodies = [
            {"image_url": f"{url}?token={TOKEN}", "height_cm": 170}
            for url in (
                photos.url("person.jpg"),
                photos.url("garment.jpg"),
                photos.url("gone.jpg"),
                "http://10.0.0.1/a",
            )
        ]
        with httpx.Client(base_url=worker.url, timeout=20) as client:
            for number, body in enumerate([*bodies, {"image_url": EMAIL}, {"image_url": "x" * 70_000}]):
                self.requests.append(f"http-{number}")
                client.post("/estimate-body", json=body, headers={"X-Request-Id": self.requests[-1]})
            for path in (f"/?token={TOKEN}", "/docs", "/health", "/estimate-body"):
                client.get(path)
        with socket.create_connection(("127.0.0.1", worker.port)) as connection:
            connection.sendall(f"no HTTP {TOKEN}\r\n\r\n".encode())
            connection.recv(1000)

    def _outages(self, worker: WorkerProcess) -> None:
        """The database and Redis go away while generations run."""
        self._world.openai.set(latency=1)
        self._world.gateway.fault("unavailable", on="rpc/*", seconds=7)
        during = [self._queue(), self._queue(email=True)]
        time.sleep(2)
        self._world.valkey.pause()
        time.sleep(4)
        self._world.valkey.resume()
        self._ended(*during)
        during = [self._queue() for _ in range(3)]
        time.sleep(0.7)
        self._world.valkey.kill()
        time.sleep(1)
        self._world.valkey.start()
        time.sleep(1)  # its user is not let in
        self._let_in()
        self._ended(*during)
        wait_for(worker.is_ready, 30, "it is not ready again")

    def _drain(self, worker: WorkerProcess) -> None:
        """Two SIGTERM: a drain, and its early end."""
        self._world.openai.set(latency=8)
        running = self._queue(email=True)
        wait_for(lambda: worker.logs("generation_started", session_id=running.session_id), 20, "it did not start")
        worker.signal(signal.SIGTERM)
        wait_for(lambda: worker.logs("drain_begun"), 10, "it does not drain")
        time.sleep(0.5)
        worker.signal(signal.SIGTERM)
        assert worker.wait(40) == 0

    def _crash(self, worker: WorkerProcess) -> None:
        """The Celery process is shot in the middle of a generation."""
        running = self._queue()
        wait_for(lambda: worker.logs("generation_started", session_id=running.session_id), 20, "it did not start")
        os.kill(worker.children()[0], signal.SIGSEGV)
        assert worker.wait(40) == 1

    def _wrong_start(self) -> None:
        worker = WorkerProcess(self._world, **{**self._environment, "OPENAI_API_KEY": ""})
        worker.start(ready=False)
        assert worker.wait(40) == 1
        self.lines += worker.output().splitlines()
