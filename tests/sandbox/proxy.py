"""A TLS forwarder in front of a server without TLS."""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Self

import trustme

from tests.sandbox.loops import BackgroundLoop, abort
from tests.sandbox.processes import data_folder, free_port, remove


class TlsProxy:
    """Forwards `127.0.0.1:port` to the port `target`; clients have to trust `ca_file`."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, free_port()
        self._folder = data_folder()
        self.ca_file = self._folder / "ca.pem"
        self._loop = BackgroundLoop()
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._server = self._loop.run(
            asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=_context(self.ca_file))
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._stop())
        self._loop.close()
        remove(self._folder)

    async def _stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            abort(writer.transport)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self.target)
        both = {writer, target_writer}
        self._writers |= both
        await asyncio.gather(_pump(reader, target_writer), _pump(target_reader, writer))
        self._writers -= both


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _context(ca_file: Path) -> ssl.SSLContext:
    """A certificate of a new authority, whose own certificate is written to `ca_file`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context
