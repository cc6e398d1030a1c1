"""A forwarder in front of a server: it can speak TLS for it, delay, refuse, cut and stall connections."""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Self

from tests.sandbox.loops import BackgroundLoop, abort
from tests.sandbox.processes import data_folder, free_port, remove


class Proxy:
    """Forwards `127.0.0.1:port` to the port `target`. With `tls`, clients have to trust `ca_file`.

    `round_trip_seconds` is what a distant server adds to each answer.
    """

    def __init__(self, target: int, *, tls: bool = False, round_trip_seconds: float = 0) -> None:
        self.target = target
        self._delay = round_trip_seconds / 2
        self.port = free_port()
        self.folder = data_folder()
        self.ca_file = self.folder / "ca.pem"
        self._tls = tls_context(self.ca_file) if tls else None
        self._loop = BackgroundLoop()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()

    def start(self) -> Self:
        """Accept connections (again)."""
        self._loop.run(self._start())
        return self

    def refuse(self) -> None:
        """Close the port and all connections, as when the server is not running; `start()` ends it."""
        self._loop.run(self._refuse())

    def cut(self) -> None:
        """Reset all connections; new ones are accepted."""
        self._loop.run(self._cut())

    def stall(self) -> None:
        """Forward nothing more and close nothing: a half-open network; `start()` ends it."""
        self._loop.run(self._set_flowing(False))

    def stop(self) -> None:
        """Close everything for good."""
        self.refuse()
        self._loop.close()
        remove(self.folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _start(self) -> None:
        await self._set_flowing(True)
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self._tls)

    async def _refuse(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in self._writers:
            abort(writer.transport)
        self._writers.clear()

    async def _set_flowing(self, flowing: bool) -> None:
        (self._flowing.set if flowing else self._flowing.clear)()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            abort(writer.transport)
            return
        both = {writer, target_writer}
        self._writers |= both
        await asyncio.gather(self._pump(reader, target_writer), self._pump(target_reader, writer))
        self._writers -= both

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        later = asyncio.get_running_loop().call_later
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                if self._delay:
                    later(self._delay, writer.write, data)
                    continue
                writer.write(data)
                await writer.drain()
        later(self._delay, writer.close)


def tls_context(ca_file: Path) -> ssl.SSLContext:
    """A certificate of a new authority, whose own certificate is written to `ca_file`."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context
