"""Partners' servers: one TLS port whose paths are partners that are good, slow, dead, lying, redirecting or gone."""

import asyncio
import json
import ssl
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from standardwebhooks import Webhook

from tests.sandbox.loops import BackgroundLoop, abort
from tests.sandbox.processes import data_folder, free_port, remove
from tests.sandbox.proxy import tls_context

#: Answers that say less, or more, than they should.
_RAW = {
    "/redirect": b"HTTP/1.1 302 Found\r\nLocation: https://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n",
    "/busy": b"HTTP/1.1 503 Busy\r\nRetry-After: 900\r\nContent-Length: 0\r\n\r\n",
    "/lying": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nshort",
    "/garbage": b"\x00\xff not HTTP at all\r\n\r\n",
    "/bomb": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
}
_SLOW_SECONDS = 2.0
#: 20 MB, far more than anyone should read of an answer.
_FLOOD_PIECES = 300
_DRAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Received:
    """One callback as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The JSON, unverified."""
        return dict(json.loads(self.body))

    def verified(self, secret: str) -> dict[str, Any]:
        """The JSON; raises standardwebhooks' error unless the secret has signed it, within its five minutes."""
        return dict(Webhook(secret).verify(self.body, self.headers))

    def verified_later(self, secret: str) -> dict[str, Any]:
        """The JSON, whose signature is compared however long ago it came."""
        moment = datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)
        expected = Webhook(secret).sign(self.headers["webhook-id"], moment, self.body.decode())
        assert expected in self.headers["webhook-signature"].split()
        return self.content


class Partner:
    """A context manager. Clients have to trust `ca_file`; `/good` and any unknown path answer 204.

    `/status/N` answers N, `/slow` answers after two seconds, `/dead` never answers, `/hangup` closes at once,
    `/flood` and `/bomb` send 20 MB. `answers` replaces a path's status, also while it runs.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = data_folder()
        self.ca_file = self.folder / "ca.pem"
        self.answers: dict[str, int] = {}
        self.received: list[Received] = []
        #: The most callbacks that one path was answering at once.
        self.most = Counter[str]()
        self._now = Counter[str]()
        self._tls: ssl.SSLContext = tls_context(self.ca_file)
        self._loop = BackgroundLoop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.port}"

    def url(self, path: str) -> str:
        """The endpoint of a partner."""
        return self.origin + path

    def at(self, path: str) -> list[Received]:
        """Callbacks that came to this path."""
        return [each for each in self.received if each.path == path]

    def environment(self) -> dict[str, str]:
        """The environment of a worker that is to reach these partners."""
        return {"SSL_CERT_FILE": str(self.ca_file), "WEBHOOK_TRUSTED_ORIGINS": self.origin}

    def __enter__(self) -> Self:
        self._server = self._loop.run(asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self._tls))
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._stop())
        self._loop.close()
        remove(self.folder)

    async def _stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            abort(writer.transport)
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task
        self._answering.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            path = first.split()[1]
            self.received.append(Received(path, headers, body))
            self._now[path] += 1
            self.most[path] = max(self.most[path], self._now[path])
            try:
                await self._answer(path, reader, writer)
            finally:
                self._now[path] -= 1
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._answering.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if path == "/dead":
            await reader.read()  # until the client hangs up
        if path == "/hangup":
            return
        if path.startswith("/slow"):
            await asyncio.sleep(_SLOW_SECONDS)
        status = self.answers.get(path) or (int(path.rpartition("/")[2]) if path.startswith("/status/") else 204)
        if path == "/flood":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            writer.write(_RAW.get(path, f"HTTP/1.1 {status} Any\r\nContent-Length: 0\r\n\r\n".encode()))
        if path in ("/flood", "/bomb"):
            for _ in range(_FLOOD_PIECES):
                writer.write(b"ffff\r\n" + b"\x1f\x8b" * 32767 + b"0\r\n" if path == "/bomb" else b"x" * 65536)
                await asyncio.wait_for(writer.drain(), _DRAIN_SECONDS)
        await writer.drain()
        if path == "/lying":
            await reader.read()  # until the client hangs up
