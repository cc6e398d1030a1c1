"""Lets a customer's URL lead to public addresses only, checked on the very address that is connected to.

The name is resolved once, by the connection that uses it, so a second answer (DNS rebinding) is never asked for.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import zip_longest
from typing import Any

import httpcore

from worker.errors import ImageRefused
from worker.photos.connection import Connection

#: A name with many addresses must not keep a generation busy with connecting; they are tried side by side.
MAX_ADDRESSES_TRIED = 8
CONNECT_TIMEOUT_SECONDS = 5.0

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]

# Lists of our own: `ipaddress.is_global` differs between Python's patch releases and says yes to multicast.
_NOT_PUBLIC_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # "this host": connects to loopback on Linux
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; some clouds' metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # public by its number, but Azure's host agent to every machine there
        "169.254.0.0/16",  # link-local; most clouds' metadata service
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
]
#: Global unicast; everything else (loopback, ULA, link-local, site-local, multicast, mapped IPv4...) lies outside.
_PUBLIC_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4: carries any IPv4 address
        "3fff::/20",  # documentation
    )
]
#: DNS64 gives these to machines without IPv4; the translator connects to the IPv4 address in the last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")

# Threads of their own: a name server that never answers must not starve whatever else uses the loop's default pool.
_resolvers = ThreadPoolExecutor(max_workers=16, thread_name_prefix="resolve")


def is_public(address: Address) -> bool:
    """Test if `address` is an ordinary unicast address of the public Internet."""
    if isinstance(address, IPv6Address) and address in _NAT64:
        address = IPv4Address(int(address) & 0xFFFFFFFF)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    return (
        address.scope_id is None and address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)
    )


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of `host`, best first; blocks a thread of its own pool, never the loop."""
    with suppress(ValueError):
        return [str(ip_address(host))]
    found = await asyncio.get_running_loop().run_in_executor(
        _resolvers, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens TCP connections for httpcore: resolves once, refuses unless every answer passes, connects to an answer."""

    def __init__(self, resolver: Resolver, allow: Callable[[Address], bool]) -> None:
        self._resolve = resolver
        self._allow = allow

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            answers = await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("the name does not resolve") from None
        # One private answer among public ones is refused, too: which one is used would be the attacker's choice.
        if not all(self._allow(ip_address(answer)) for answer in answers):
            raise ImageRefused(f"{host} does not lead to a public address only.")
        if not answers:
            raise httpcore.ConnectError("the name has no address")
        return await Connection.open(_both_families(answers)[:MAX_ADDRESSES_TRIED], port, timeout)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _both_families(answers: list[str]) -> list[str]:
    """The family of the best answer and the other one in turns, so that neither fills the first places alone."""
    first = [answer for answer in answers if (":" in answer) == (":" in answers[0])]
    second = [answer for answer in answers if answer not in first]
    turns = zip_longest(first, second)
    return [answer for turn in turns for answer in turn if answer]
