"""`Sandbox`: everything around the worker, started together and stopped together."""

import os
import secrets
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from time import time
from typing import Any, Self

import redis

from tests.sandbox.database import Database
from tests.sandbox.postgres import Postgres
from tests.sandbox.processes import data_folder, end, remove, spawn
from tests.sandbox.producer import Producer
from tests.sandbox.records import Records
from tests.sandbox.remote import GatewayRemote, OpenAIRemote, PhotosRemote, ReceivedCall, StoredObject
from tests.sandbox.supabase.tokens import api_key, sign
from tests.sandbox.valkey import Valkey

ROOT = Path(__file__).parents[2]
SCHEMA = Path(__file__).parent / "supabase" / "schema.sql"
MIGRATION = ROOT / "worker" / "generation" / "sql" / "functions.sql"
TEMPLATE = "template_wearon"
BUCKET = "virtual-tryon-images"
#: Emptied by `reset()`, with every table that refers to them.
_TABLES = (
    *("auth.users", "stores", "witness.status_changes", "witness.balance_changes"),
    *("wearon.session_events", "wearon.data_life", "wearon.data_life_open"),
    *("wearon.regions", "wearon.session_regions"),
)


class Sandbox(Records):
    """A context manager. The servers are real processes on 127.0.0.1 that end with this one, however it ends.

    `compose=False` makes the image API answer a canned picture, which costs no time.
    """

    def __init__(self, *, compose: bool = True) -> None:
        self._compose = compose
        self._undo: ExitStack | None = None
        self._secret = secrets.token_hex(16)
        self.openai_key = "sk-sandbox"
        expiry = int(time()) + 10 * 365 * 86400
        self.service_key = sign({"iss": "supabase", "role": "service_role", "exp": expiry}, self._secret)
        self.secret_key = api_key("secret", self._secret)
        self.publishable_key = api_key("publishable", self._secret)
        self.anon_key = sign({"iss": "supabase", "role": "anon", "exp": expiry}, self._secret)

    def start(self) -> Self:
        """Start everything; returns when everything answers."""
        if self._undo:
            raise RuntimeError("the sandbox runs already")
        with ExitStack() as undo:
            self.folder = data_folder()
            undo.callback(remove, self.folder)
            self.valkey, self.postgres = Valkey(self.folder), Postgres(self.folder)
            undo.callback(end, self._start_server())  # it loads while the databases start
            undo.callback(self.valkey.kill)
            self.valkey.start()
            undo.callback(self.postgres.kill)
            self.postgres.start()
            self.database = undo.enter_context(self._make_database())
            self.redis = undo.enter_context(redis.Redis.from_url(self.redis_url, decode_responses=True))
            self.gateway.use(self.postgres.url("wearon", user="authenticator"))
            self.openai.set(compose=self._compose)
            self._undo = undo.pop_all()
        pictures = ("person.jpg", "garment.jpg")
        self.producer = Producer(self.database, self.redis, [self.photos.url(name) for name in pictures])
        return self

    def stop(self) -> None:
        """Stop everything and delete the data."""
        if self._undo:
            self._undo.close()
            self._undo = None

    def reset(self) -> None:
        """Remove all rows, messages, objects, calls and faults; a stopped Valkey runs again."""
        self.gateway.reset()  # first: hanging requests end and give their locks back
        self.openai.reset()
        self.openai.set(compose=self._compose)
        self.photos.reset()
        self.valkey.resume()
        self.valkey.start()
        self.redis.flushall()
        empty = f"select witness.empty_tables('{{{', '.join(_TABLES)}}}'::regclass[])"
        self.database.execute(f"set lock_timeout = '10s'; {empty}; reset lock_timeout")

    @property
    def redis_url(self) -> str:
        return self.valkey.url

    def env(self, **more: str) -> dict[str, str]:
        """The environment for a worker in this world; `more` is added or replaces."""
        return {
            "REDIS_URL": self.redis_url,
            "SUPABASE_URL": self.supabase_url,
            "SUPABASE_SERVICE_ROLE_KEY": self.service_key,
            "SUPABASE_STORAGE_BUCKET": BUCKET,
            "OPENAI_API_KEY": self.openai_key,
            "OPENAI_BASE_URL": self.openai_url,
            "FETCH_TRUSTED_ORIGINS": self.photos_url,
            "HTTP_HOST": "127.0.0.1",
            **more,
        }

    def objects(self) -> dict[str, StoredObject]:
        """The objects in Storage, by path."""
        return self.gateway.objects()

    def calls(self, containing: str = "") -> list[ReceivedCall]:
        """Calls of the image API, optionally those whose prompt contains a text."""
        return self.openai.calls(containing)

    def pids(self) -> dict[str, int]:
        """Processes of the sandbox, for measurements that have to leave them out."""
        found = {"http": self._server.pid, "valkey": self.valkey.pid, "postgres": self.postgres.pid}
        return {name: pid for name, pid in found.items() if pid}

    def _make_database(self) -> Database:
        with Database(self.postgres.create_database(TEMPLATE)) as template:
            for script in (SCHEMA, SCHEMA.with_name("witness.sql"), MIGRATION):
                template.apply(script)
        self.database_url = self.postgres.create_database("wearon", template=TEMPLATE)
        return Database(self.database_url)

    def _start_server(self) -> subprocess.Popen[bytes]:
        listeners = [socket.create_server(("127.0.0.1", 0), backlog=2048) for _ in range(3)]
        origins = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
        self.supabase_url, self.openai_url, self.photos_url = origins[0], f"{origins[1]}/v1", origins[2]
        self.gateway, self.openai = GatewayRemote(origins[0]), OpenAIRemote(origins[1])
        self.photos = PhotosRemote(origins[2])
        descriptors = [listener.fileno() for listener in listeners]
        names = ("--gateway-fd", "--openai-fd", "--photos-fd")
        arguments = [str(part) for pair in zip(names, descriptors, strict=True) for part in pair]
        environment = {"SANDBOX_SECRET": self._secret, "SANDBOX_BUCKETS": BUCKET, "OPENAI_API_KEY": self.openai_key}
        self._server = spawn(
            [sys.executable, "-m", "tests.sandbox.server", *arguments],
            log=self.folder / "http.log",
            env={**os.environ, **environment},
            pass_fds=descriptors,
            cwd=ROOT,
        )
        for listener in listeners:
            listener.close()
        return self._server

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()
