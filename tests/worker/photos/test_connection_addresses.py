"""A photo host with addresses that answer, refuse, or swallow everything: real sockets on loopback addresses."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import httpcore
import pytest

from worker.photos.connection import Connection

#: A listener whose backlog is full swallows further connections, as a route that leads nowhere does.
DEAD = "127.0.0.9"
REFUSING = "127.0.0.8"

Ports = tuple[int, list[str]]


@pytest.fixture
async def ports() -> AsyncIterator[Ports]:
    """One port number on which 127.0.0.1 and ::1 answer, and DEAD swallows; gives the port and who was connected to."""
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("sockname")[0])
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    six = await asyncio.start_server(serve, "::1", port)
    swallowing = socket.create_server((DEAD, port), backlog=0)
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex((DEAD, port))
    yield port, seen
    for used in (*fillers, swallowing):
        used.close()
    for listening in (server, six):
        listening.close()


async def opened(addresses: list[str], port: int, timeout: float = 5) -> tuple[str, float]:
    started = time.monotonic()
    connection = await Connection.open(addresses, port, timeout)
    seconds = time.monotonic() - started
    name = connection.get_extra_info("peername")[0]
    await connection.aclose()
    return name, seconds


@pytest.mark.parametrize("dead", [[DEAD], [DEAD] * 2])
async def test_dead_address_costs_a_quarter_of_a_second(ports: Ports, dead: list[str]) -> None:
    port, _ = ports
    name, seconds = await opened([*dead, "127.0.0.1"], port)
    assert name == "127.0.0.1"
    assert 0.2 < seconds < 0.25 * len(dead) + 0.75


async def test_dead_addresses_of_one_family_cost_one_turn(ports: Ports) -> None:
    name, seconds = await opened([DEAD, DEAD, DEAD, DEAD, "::1"], ports[0])
    assert name == "::1"
    assert seconds < 1


async def test_refusing_address_costs_nothing(ports: Ports) -> None:
    name, seconds = await opened([REFUSING, "127.0.0.1"], ports[0])
    assert name == "127.0.0.1"
    assert seconds < 0.25


async def test_best_address_is_used_when_it_answers(ports: Ports) -> None:
    port, seen = ports
    assert (await opened(["::1", "127.0.0.1"], port))[0] == "::1"
    assert (await opened(["127.0.0.1", "::1"], port))[0] == "127.0.0.1"
    await asyncio.sleep(0)
    assert len(seen) <= 2


async def test_only_dead_addresses_end_with_the_connect_timeout(ports: Ports) -> None:
    with pytest.raises(httpcore.ConnectTimeout):
        await opened([DEAD], ports[0], timeout=0.3)


async def test_only_refusing_addresses_are_a_connection_error(ports: Ports) -> None:
    with pytest.raises(httpcore.ConnectError):
        await opened([REFUSING, REFUSING], ports[0])


async def test_name_is_never_resolved_here(ports: Ports) -> None:
    with pytest.raises(httpcore.ConnectError):
        await opened(["localhost"], ports[0])


async def test_loser_of_the_race_is_closed(ports: Ports) -> None:
    """No socket is left that still tries the dead address."""
    port, _ = ports

    def trying() -> int:
        with open("/proc/net/tcp") as table:
            return sum(line.split()[2] == f"0900007F:{port:04X}" and line.split()[3] == "02" for line in table)

    before = trying()
    await opened([DEAD, "127.0.0.1"], port)
    assert trying() == before
