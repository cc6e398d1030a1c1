import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from statistics import median

import httpcore
import pytest
import trustme

from worker.photos.connection import HEAD_BYTES, READ_BYTES, Connection

BODY = bytes(range(256)) * 12_000  # 3 MB in which every byte's place shows

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


class Peer:
    """A server on loopback that runs `talk` on each connection."""

    def __init__(self) -> None:
        self.sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        try:
            await self.talk(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    async def send_body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(BODY), 16_384):
            writer.write(BODY[at : at + 16_384])
            await writer.drain()

    async def connect(self, talk: Talk, *, tls: ssl.SSLContext | None = None) -> Connection:
        self.talk = talk
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=tls)
        return await Connection.open(["127.0.0.1"], self.server.sockets[0].getsockname()[1], timeout=5)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def tls(authority: trustme.CA) -> Contexts:
    """Server's and client's context."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("photos.example").configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def everything(connection: Connection) -> list[bytes]:
    pieces = []
    while piece := await connection.read(65_536, timeout=10):
        pieces.append(piece)
    return pieces


async def test_what_was_sent_arrives_in_order() -> None:
    peer = Peer()
    connection = await peer.connect(peer.send_body)
    assert b"".join(await everything(connection)) == BODY
    await connection.aclose()


async def test_tls_arrives_in_larger_pieces_than_its_records(tls: Contexts) -> None:
    peer = Peer()
    plain = await peer.connect(peer.send_body, tls=tls[0])
    connection = await plain.start_tls(tls[1], "photos.example", timeout=5)
    pieces = []
    while piece := await connection.read(65_536, timeout=10):
        pieces.append(piece)
        await asyncio.sleep(0.01)  # meanwhile more arrives
    assert b"".join(pieces) == BODY
    assert max(len(piece) for piece in pieces) > 65_536
    assert connection.get_extra_info("ssl_object") is not None
    await connection.aclose()


async def test_certificate_for_another_name_is_a_connect_error(tls: Contexts) -> None:
    peer = Peer()
    plain = await peer.connect(peer.send_body, tls=tls[0])
    with pytest.raises(httpcore.ConnectError):
        await plain.start_tls(tls[1], "other.example", timeout=5)


async def test_peer_cannot_send_far_ahead_of_the_reader() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(65_536))
            await writer.drain()
            peer.sent += 65_536

    peer = Peer()
    connection = await peer.connect(talk)
    before = -1
    while before != peer.sent:
        before = peer.sent
        await asyncio.sleep(0.3)
    # The rest of it is in the buffers of the kernel.
    assert len(await connection.read(1, timeout=5)) <= READ_BYTES
    await asyncio.sleep(0)
    assert len(await connection.read(1, timeout=5)) > 0
    await connection.aclose()


async def test_a_head_comes_in_small_pieces_and_nothing_of_the_body_is_lost() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        await Peer.send_body(peer, reader, writer)

    peer = Peer()
    connection = await peer.connect(talk)
    await connection.write(b"?")
    head = [await connection.read(65_536, timeout=10) for _ in range(5)]
    assert max(map(len, head)) <= HEAD_BYTES
    connection.expect_body()
    body = await everything(connection)
    assert b"".join([*head, *body]) == BODY
    assert max(map(len, body)) > HEAD_BYTES


async def test_silence_is_a_read_timeout() -> None:
    peer = Peer()
    connection = await peer.connect(lambda reader, _: reader.read())
    with pytest.raises(httpcore.ReadTimeout):
        await connection.read(1, timeout=0.05)
    await connection.aclose()


async def test_reset_is_a_read_error_after_what_came_before() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"begun")
        await writer.drain()
        await reader.readexactly(2)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    connection = await Peer().connect(talk)
    assert await connection.read(1, timeout=5) == b"begun"
    await connection.write(b"go")
    with pytest.raises(httpcore.ReadError):
        await connection.read(1, timeout=5)


async def test_end_of_an_idle_connection_is_noticed() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)

    connection = await Peer().connect(talk)
    assert not connection.get_extra_info("is_readable")
    await connection.write(b"go")
    assert await connection.read(1, timeout=5) == b""
    assert connection.get_extra_info("is_readable")
    await asyncio.sleep(0.05)
    with pytest.raises(httpcore.WriteError):
        await connection.write(b"more")


async def test_refused_connection_is_a_connect_error() -> None:
    peer = Peer()
    await (await peer.connect(lambda reader, _: reader.read())).aclose()
    port = peer.server.sockets[0].getsockname()[1]
    peer.server.close()
    with pytest.raises(httpcore.ConnectError):
        await Connection.open(["127.0.0.1"], port, timeout=5)


async def test_a_host_that_sends_head_and_body_apart_is_not_kept_waiting_for_the_acknowledgement() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        while await reader.read(100):
            writer.write(b"head")
            await asyncio.sleep(0)
            writer.write(b"body" * 100)

    peer = Peer()
    connection = await peer.connect(answer)
    seconds = []
    for _ in range(60):
        begun = time.monotonic()
        await connection.write(b"request")
        size = 0
        while size < 404:
            size += len(await connection.read(1000, timeout=5))
        seconds.append(time.monotonic() - begun)
    await connection.aclose()
    # The kernel holds acknowledgements back for 40 ms, though not the first ones of a connection.
    assert median(seconds[30:]) < 0.02
