"""One TCP or TLS connection for httpcore, on asyncio itself.

What a download of some megabytes costs depends on the pieces that it comes in. Here a piece is whatever has arrived
since the last one, with TLS as well as without; httpcore's own backend hands on every TLS record of 16 kB by itself.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, cast

import aiohappyeyeballs
import httpcore

#: RFC 8305: how long an address may keep silent until the next one is tried beside it.
NEXT_ADDRESS_SECONDS = 0.25
#: A piece's largest size, and what is read ahead at most.
READ_BYTES = 256 * 1024
#: A piece's largest size before the body: the parser takes all interim answers (1xx) of a piece in one go, 50 us each.
HEAD_BYTES = 4 * 1024


class Connection(httpcore.AsyncNetworkStream):
    """Opened by `Connection.open`; errors are httpcore's."""

    def __init__(self, transport: asyncio.Transport, arrived: "_Arrived") -> None:
        self._transport = transport
        self._arrived = arrived

    @classmethod
    async def open(cls, addresses: Sequence[str], port: int, timeout: float | None) -> Self:
        """Connect to the first of the IP addresses that answers; no name is resolved here."""
        loop = asyncio.get_running_loop()
        async with _translated(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
            endpoints = [_endpoint(address, port) for address in addresses]
            winner = await aiohappyeyeballs.start_connection(
                endpoints, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, interleave=1
            )
            return cls(*await loop.create_connection(_Arrived, sock=winner))

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "Connection":
        loop = asyncio.get_running_loop()
        async with _translated(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
            transport = await loop.start_tls(
                self._transport, self._arrived, ssl_context, server_hostname=server_hostname
            )
        if transport is None:
            raise httpcore.ConnectError("the connection was closed")
        self._arrived.transport = transport
        return Connection(transport, self._arrived)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has arrived, up to READ_BYTES, or HEAD_BYTES of a head, however little was asked for."""
        async with _translated(timeout, httpcore.ReadTimeout, httpcore.ReadError):
            return await self._arrived.take()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Return before the bytes are sent: a request without a body fits into the kernel's buffer."""
        if self._transport.is_closing():
            raise httpcore.WriteError("the connection was closed")
        self._transport.write(buffer)
        self._arrived.piece_bytes = HEAD_BYTES
        if peer := self._transport.get_extra_info("socket"):
            # A host that sends head and body apart waits in between for our acknowledgement, which the kernel holds
            # back for 40 ms.
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def expect_body(self) -> None:
        """Read in large pieces again: the head of the answer is known."""
        self._arrived.piece_bytes = READ_BYTES

    async def aclose(self) -> None:
        # At once: the end of the answer is known, or of no interest.
        self._transport.abort()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._arrived.is_readable
        return self._transport.get_extra_info(info)


class _Arrived(asyncio.BufferedProtocol):
    """Bytes that the other side has sent and that were not read yet."""

    #: Reading from it is paused while the buffer is full.
    transport: asyncio.ReadTransport
    piece_bytes = READ_BYTES

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._size = 0
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_readable(self) -> bool:
        return self._size > 0 or self._ended

    async def take(self) -> bytes:
        """The bytes that are there, as soon as there are any; other tasks have their turn between two pieces."""
        if not self.is_readable:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        else:
            await asyncio.sleep(0)
        if self._error and not self._size:
            raise self._error
        size = min(self._size, self.piece_bytes)
        piece = bytes(self._buffer[:size])
        if self._size == READ_BYTES and not self._ended:
            self.transport.resume_reading()
        self._buffer[: self._size - size] = self._buffer[size : self._size]
        self._size -= size
        return piece

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.ReadTransport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[self._size :]

    def buffer_updated(self, nbytes: int) -> None:
        self._size += nbytes
        if self._size == READ_BYTES:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._error = True, exc
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


def _endpoint(address: str, port: int) -> aiohappyeyeballs.AddrInfoType:
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]


@asynccontextmanager
async def _translated(
    timeout: float | None, late: type[httpcore.TimeoutException], failed: type[httpcore.NetworkError]
) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError:
        raise late from None
    except OSError as error:  # of TLS, too
        raise failed(str(error)) from error
