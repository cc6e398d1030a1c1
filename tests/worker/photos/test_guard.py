import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Never

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ImageRefused
from worker.photos.connection import Connection
from worker.photos.guard import MAX_ADDRESSES_TRIED, GuardedBackend, is_public, resolve

Resolver = Callable[[str, int], Awaitable[list[str]]]

PRIVATE = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255"),
    *("127.0.0.1", "127.1.2.3", "127.255.255.255", "168.63.129.16", "169.254.0.1", "169.254.169.254"),
    *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1"),
    *("198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::2", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "64:ff9b:1::1"),
    *("100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1", "2001:db8::1"),
    *("2002:7f00:1::1", "2002:a00:1::1", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1"),
    *("fc00::1", "fd00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%eth0", "fec0::1"),
    *("ff00::1", "ff02::1", "ff0e::1", "2606:4700::1111%eth0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("128.0.0.0", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0"),
    *("198.17.255.255", "198.20.0.0", "223.255.255.255"),
    *("2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2400:cb00::1", "64:ff9b::8.8.8.8"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_address_that_is_not_of_the_public_internet_is_recognised(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_next_to_a_private_range_is_allowed(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.builds(IPv4Address, st.integers(0, 2**32 - 1)) | st.builds(IPv6Address, st.integers(0, 2**128 - 1)))
def test_nothing_is_allowed_that_python_calls_private(address: IPv4Address | IPv6Address) -> None:
    if address not in ip_network("64:ff9b::/96") and is_public(address):
        assert address.is_global
        assert not address.is_multicast


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Stands where TCP would: what is connected to, in this order."""
    tried: list[tuple[str, int]] = []

    async def connect(addresses: list[str], port: int, timeout: float) -> httpcore.AsyncNetworkStream:
        tried.extend((address, port) for address in addresses)
        return httpcore.AsyncMockStream([])

    monkeypatch.setattr(Connection, "open", connect)
    return tried


def names(*answers: str) -> Resolver:
    async def resolver(host: str, port: int) -> list[str]:
        return list(answers)

    return resolver


async def test_connection_goes_to_the_checked_addresses(tried: list[tuple[str, int]]) -> None:
    await GuardedBackend(names("1.1.1.1", "8.8.8.8"), is_public).connect_tcp("photos.example", 443)
    assert tried == [("1.1.1.1", 443), ("8.8.8.8", 443)]


async def test_a_name_with_many_addresses_of_one_family_still_gets_the_other_tried(
    tried: list[tuple[str, int]],
) -> None:
    six, four = [f"2606:4700::{number}" for number in range(1, 100)], ["8.8.8.8", "8.8.4.4"]
    await GuardedBackend(names(*six, *four), is_public).connect_tcp("photos.example", 443)
    assert [address for address, _ in tried] == [six[0], four[0], six[1], four[1], *six[2:6]]
    assert len(tried) == MAX_ADDRESSES_TRIED


@pytest.mark.parametrize("private", PRIVATE)
async def test_one_private_answer_among_public_ones_refuses_the_name(
    private: str, tried: list[tuple[str, int]]
) -> None:
    for answers in ([private], ["1.1.1.1", private], [private, "1.1.1.1"]):
        with pytest.raises(ImageRefused):
            await GuardedBackend(names(*answers), is_public).connect_tcp("photos.example", 443)
    assert tried == []


async def test_private_answer_beyond_the_addresses_that_are_tried_refuses_the_name(
    tried: list[tuple[str, int]],
) -> None:
    answers = [f"8.8.8.{number}" for number in range(50)] + ["10.0.0.1"]
    with pytest.raises(ImageRefused):
        await GuardedBackend(names(*answers), is_public).connect_tcp("photos.example", 443)
    assert tried == []


async def test_a_name_without_addresses_is_a_connection_error(tried: list[tuple[str, int]]) -> None:
    with pytest.raises(httpcore.ConnectError):
        await GuardedBackend(names(), is_public).connect_tcp("photos.example", 443)
    assert tried == []


async def test_a_name_that_does_not_resolve_is_a_connection_error() -> None:
    async def resolver(host: str, port: int) -> Never:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(httpcore.ConnectError):
        await GuardedBackend(resolver, is_public).connect_tcp("nowhere.example", 443)


async def test_resolving_gives_each_address_once() -> None:
    assert "127.0.0.1" in await resolve("localhost", 80)
    assert await resolve("127.0.0.1", 80) == ["127.0.0.1"]
    assert await resolve("::1", 80) == ["::1"]
