import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from worker.errors import ImageError, ImageInvalid, ImageRefused, ImageTooLarge, ImageUnavailable
from worker.photos import fetcher as fetcher_module
from worker.photos.connection import Connection
from worker.photos.fetcher import ImageFetcher
from worker.photos.labels import retry_after_seconds

PUBLIC = "93.184.216.34"
BODY = b"picture" * 1000
SECRET = "/private/secret.jpg?token=secret"

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
Maker = Callable[..., ImageFetcher]
Resolver = Callable[[str, int], Awaitable[list[str]]]
Reached = list[tuple[str, int]]


def answer(body: bytes = BODY, *headers: str, status: str = "200 OK", kind: str = "image/jpeg") -> bytes:
    """A complete response; `headers` come first, so that a given Content-Length stays the only one."""
    lines = [*headers, f"Content-Type: {kind}"] if kind else list(headers)
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


class PhotoHost:
    """A server on loopback that gives `answer` to every request, and remembers what it saw."""

    def __init__(self) -> None:
        self.answer: bytes | Answer = answer()
        self.requests: list[str] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.hung_up = asyncio.Event()
        self.names: list[str | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while not writer.is_closing():
                self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                if isinstance(self.answer, bytes):
                    writer.write(self.answer)
                    await writer.drain()
                else:
                    await self.answer(writer)
        except (OSError, asyncio.IncompleteReadError):
            self.hung_up.set()
        finally:
            self.open -= 1
            writer.close()

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.origin = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.url = self.origin + SECRET

    def stop(self) -> None:
        self._server.close()


@pytest.fixture
async def host() -> AsyncIterator[PhotoHost]:
    photo_host = PhotoHost()
    await photo_host.start()
    yield photo_host
    photo_host.stop()


@pytest.fixture
async def make() -> AsyncIterator[Maker]:
    """Makes fetchers: `make(host)` trusts it; the rest overrides the usual arguments."""
    made = []

    def fetcher(*trusted: PhotoHost, **overrides: Any) -> ImageFetcher:
        usual: dict[str, Any] = {
            "trusted_origins": frozenset(host.origin for host in trusted),
            "max_bytes": 100_000,
            "timeout_seconds": 10,
            "downloads": 64,
        }
        made.append(ImageFetcher(**(usual | overrides)))
        return made[-1]

    yield fetcher
    for item in made:
        await item.aclose()


@pytest.fixture
def wire(host: PhotoHost, monkeypatch: pytest.MonkeyPatch) -> Reached:
    """Leads every TCP connection to `host` and notes the address that was meant."""
    meant: Reached = []
    connect = Connection.open

    async def connect_to_host(addresses: list[str], port: int, timeout: float) -> Connection:
        meant.extend((address, port) for address in addresses)
        return await connect(["127.0.0.1"], host.port, timeout)

    monkeypatch.setattr(Connection, "open", connect_to_host)
    return meant


def resolving(*answers: list[str]) -> Resolver:
    """A name server that gives one answer after the other, and fails the test when asked once more."""
    left = list(answers)

    async def resolver(name: str, port: int) -> list[str]:
        return left.pop(0)

    return resolver


async def failure(fetcher: ImageFetcher, url: str) -> ImageError:
    """The error of fetching `url`; the log must never learn the path or the query."""
    with pytest.raises(ImageError) as caught:
        await fetcher.fetch(url)
    assert "secret" not in str(caught.value)
    return caught.value


# What is asked for, and how


async def test_photo_is_downloaded(host: PhotoHost, make: Maker) -> None:
    assert await make(host).fetch(host.url) == BODY


async def test_request_carries_the_urls_host_and_nothing_about_us(host: PhotoHost, make: Maker) -> None:
    await make(host).fetch(host.url)
    head = host.requests[0].lower()
    assert head.startswith(f"get {SECRET} http/1.1\r\n")
    assert f"host: 127.0.0.1:{host.port}\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert not {"cookie", "authorization", "referer", "proxy-connection"} & {
        line.split(":")[0] for line in head.split("\r\n")
    }


@pytest.mark.parametrize(
    "kind",
    [
        *(
            "image/jpeg",
            "image/png",
            "image/webp",
            "image/avif",
            "image/jpg",
            "image/pjpeg",
            "IMAGE/JPEG; charset=utf-8",
        ),
        *("image/jfif", "image/x-png", "image/heic", "image/heif", "image/gif", "image/*", "image", "jpeg", "*/*", ""),
        *("application/octet-stream", "binary/octet-stream", "text/plain", "text/plain;charset=UTF-8"),
        *(
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded",
            "image/jpeg, image/jpeg",
            "undefined",
        ),
    ],
)
async def test_bytes_decide_unless_the_label_is_clearly_no_picture(kind: str, host: PhotoHost, make: Maker) -> None:
    host.answer = answer(kind=kind)
    assert await make(host).fetch(host.url) == BODY


@pytest.mark.parametrize(
    "kind",
    [
        *("text/html", "TEXT/HTML; charset=utf-8", "text/xml", "text/css", "application/json", "application/xml"),
        *("image/svg+xml", "application/xhtml+xml", "application/problem+json", "application/pdf", "application/zip"),
        *("video/mp4", "audio/mpeg", "application/vnd.ms-excel", "text/html, image/jpeg"),
    ],
)
async def test_label_that_is_clearly_no_picture_is_refused_with_its_name(
    kind: str, host: PhotoHost, make: Maker
) -> None:
    host.answer = answer(kind=kind)
    error = await failure(make(host), host.url)
    assert isinstance(error, ImageInvalid)
    assert kind.split(";", maxsplit=1)[0].split(",", maxsplit=1)[0].lower() in str(error)


async def test_body_may_come_in_chunks(host: PhotoHost, make: Maker) -> None:
    host.answer = answer(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
    assert await make(host).fetch(host.url) == b"abcde"


@pytest.mark.parametrize(
    "coding", ["gzip", "x-gzip", "GZIP", "deflate", "br", "zstd", "compress", "dcb", "base64", "identity, gzip", "lzma"]
)
async def test_compressed_body_is_refused(coding: str, host: PhotoHost, make: Maker) -> None:
    host.answer = answer(BODY, f"Content-Encoding: {coding}")
    assert isinstance(await failure(make(host), host.url), ImageInvalid)


async def test_compression_named_in_a_second_header_is_refused(host: PhotoHost, make: Maker) -> None:
    host.answer = answer(BODY, "Content-Encoding: identity", "Content-Encoding: gzip")
    assert isinstance(await failure(make(host), host.url), ImageInvalid)


@pytest.mark.parametrize(
    "coding",
    [
        "identity",
        "",
        "aws-chunked",
        "utf-8",
        "UTF-8",
        "none",
        "binary",
        "image/jpeg",
        "aws-chunked,identity",
        ",",
        '""',
    ],
)
async def test_coding_that_names_no_compression_passes(coding: str, host: PhotoHost, make: Maker) -> None:
    host.answer = answer(BODY, f"Content-Encoding: {coding}")
    assert await make(host).fetch(host.url) == BODY


@pytest.mark.parametrize(
    "status",
    ["204 No Content", "206 Partial Content", "400 Bad", "401 Who", "403 No", "404 Gone", "410 Gone", "418 No"],
)
async def test_status_that_will_not_change_is_final(status: str, host: PhotoHost, make: Maker) -> None:
    host.answer = answer(b"", status=status)
    error = await failure(make(host), host.url)
    assert isinstance(error, ImageUnavailable)
    assert status[:3] in str(error)
    assert len(host.requests) == 1


# A host that may do better


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher_module, "FIRST_PAUSE_SECONDS", 0.02)


def first(host: PhotoHost, *answers: bytes | Answer) -> None:
    """The host gives these answers one after the other, then the photo."""
    left = [*answers, answer()]

    async def next_one(writer: asyncio.StreamWriter) -> None:
        reply = left.pop(0)
        if not isinstance(reply, bytes):
            return await reply(writer)
        writer.write(reply)
        if not reply.endswith(BODY) or b"Content-Length: 8000" in reply:
            writer.close()

    host.answer = next_one


async def vanish(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


PASSING = [
    *(answer(b"", status=status) for status in ("500 Oh", "502 Bad", "503 Busy", "504 Late", "520 What", "429 Slow")),
    answer(BODY, "Content-Length: 8000"),
    b"",
    vanish,
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("passing", PASSING)
async def test_one_failure_of_the_host_does_not_lose_the_photo(
    passing: bytes | Answer, host: PhotoHost, make: Maker
) -> None:
    first(host, passing)
    assert await make(host).fetch(host.url) == BODY


@pytest.mark.usefixtures("quick")
async def test_a_host_that_stays_down_is_given_up_after_a_few_attempts(host: PhotoHost, make: Maker) -> None:
    host.answer = answer(b"", status="503 Busy")
    error = await failure(make(host), host.url)
    assert "503" in str(error)
    assert len(host.requests) == fetcher_module.ATTEMPTS


async def test_silent_host_is_asked_anew(host: PhotoHost, make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fetcher_module._TIMEOUTS, "read", 0.2)
    first(host, silence)
    assert await make(host).fetch(host.url) == BODY


async def test_photo_is_asked_for_again_no_earlier_than_the_host_wishes(host: PhotoHost, make: Maker) -> None:
    first(host, answer(b"", "Retry-After: 1", status="503 Busy"))
    started = time.monotonic()
    assert await make(host).fetch(host.url) == BODY
    assert 1 <= time.monotonic() - started < 3


@pytest.mark.parametrize("when", ["3600", "Fri, 31 Dec 2999 23:59:59 GMT"])
async def test_host_that_asks_for_more_time_than_there_is_is_given_up_at_once(
    when: str, host: PhotoHost, make: Maker
) -> None:
    host.answer = answer(b"", f"Retry-After: {when}", status="429 Slow")
    assert "429" in str(await failure(make(host), host.url))
    assert len(host.requests) == 1


@pytest.mark.parametrize(
    "when",
    [
        *("", "soon", "-5", "0", "Fri, 31 Dec 1999 23:59:59 GMT", "\u0665", "1e3"),
        *("Wed, 21 Oct 99999999999999 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 -9999"),
    ],
)
def test_unreadable_or_past_wish_is_no_wish(when: str) -> None:
    assert retry_after_seconds(when) == 0


async def test_attempts_end_with_the_fetchs_own_time(host: PhotoHost, make: Maker) -> None:
    host.answer = answer(b"", status="503 Busy")
    started = time.monotonic()
    assert isinstance(await failure(make(host, timeout_seconds=0.3), host.url), ImageUnavailable)
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 Other", "307 Same", "308 Same"])
async def test_redirect_is_not_followed(status: str, host: PhotoHost, make: Maker) -> None:
    host.answer = answer(b"", f"Location: {host.origin}/elsewhere", status=status)
    assert isinstance(await failure(make(host), host.url), ImageUnavailable)
    assert len(host.requests) == 1


async def test_cookie_is_not_kept(host: PhotoHost, make: Maker) -> None:
    host.answer = answer(BODY, "Set-Cookie: a=b")
    fetcher = make(host)
    await fetcher.fetch(host.url)
    await fetcher.fetch(host.url)
    assert "cookie" not in host.requests[1].lower()


async def test_proxy_of_the_environment_is_not_used(
    host: PhotoHost, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await make(host).fetch(host.url) == BODY


# Limits


async def test_body_in_thousands_of_tiny_parts_is_refused(host: PhotoHost, make: Maker) -> None:
    host.answer = answer(b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n", "Transfer-Encoding: chunked")
    error = await failure(make(host), host.url)
    assert isinstance(error, ImageUnavailable)
    assert "too small parts" in str(error)


async def test_interim_answers_without_end_leave_other_tasks_their_turn(host: PhotoHost, make: Maker) -> None:
    async def interim(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50_000)
            await writer.drain()

    host.answer = interim
    longest, fetch = 0.0, asyncio.create_task(failure(make(host, timeout_seconds=1), host.url))
    while not fetch.done():
        began = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - began)
    assert isinstance(await fetch, ImageUnavailable)
    assert longest < 0.1


async def test_announced_size_over_the_limit_is_refused_before_the_body(host: PhotoHost, make: Maker) -> None:
    host.answer = answer(b"", "Content-Length: 11000000")
    error = await failure(make(host, max_bytes=10_000_000), host.url)
    assert isinstance(error, ImageTooLarge)
    assert str(error) == "Image has at least 11,000,000 bytes; the limit is 10,000,000."
    await asyncio.wait_for(host.hung_up.wait(), 5)


async def test_endless_body_is_cut_off_at_the_limit(host: PhotoHost, make: Maker) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(answer(b"", "Transfer-Encoding: chunked"))
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()
            sent += 0x10000

    host.answer = endless
    assert isinstance(await failure(make(host, max_bytes=1_000_000), host.url), ImageTooLarge)
    await asyncio.wait_for(host.hung_up.wait(), 5)
    # What the kernel buffers on both sides comes on top of the limit.
    assert sent < 12_000_000


@pytest.mark.parametrize("size", [99_999, 100_000])
async def test_body_of_exactly_the_limit_is_accepted(size: int, host: PhotoHost, make: Maker) -> None:
    host.answer = answer(b"x" * size)
    assert len(await make(host).fetch(host.url)) == size


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"", "Content-Length: 90000"))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def headers_drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


@pytest.mark.parametrize("slow", [drip, headers_drip, silence])
async def test_whole_download_has_one_deadline(slow: Answer, host: PhotoHost, make: Maker) -> None:
    host.answer = slow
    started = asyncio.get_running_loop().time()
    assert isinstance(await failure(make(host, timeout_seconds=0.4), host.url), ImageUnavailable)
    assert asyncio.get_running_loop().time() - started < 2


async def test_name_server_that_never_answers_ends_with_the_deadline(make: Maker) -> None:
    async def resolver(name: str, port: int) -> None:
        await asyncio.sleep(30)

    fetcher = make(timeout_seconds=0.2, resolver=resolver)
    assert isinstance(await failure(fetcher, "http://photos.example" + SECRET), ImageUnavailable)


async def test_connections_are_bounded_and_everyone_gets_a_turn(host: PhotoHost, make: Maker) -> None:
    fetcher = make(host, downloads=8)
    bodies = await asyncio.gather(*(fetcher.fetch(host.url) for _ in range(200)))
    assert bodies == [BODY] * 200
    assert host.most_open <= 8


async def test_waiting_for_a_turn_does_not_count_as_the_hosts_time(host: PhotoHost, make: Maker) -> None:

    async def slow(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        writer.write(answer())

    host.answer = slow
    fetcher = make(host, timeout_seconds=2, downloads=1)
    assert await asyncio.gather(*(fetcher.fetch(host.url) for _ in range(5))) == [BODY] * 5


async def test_cancelled_download_gives_its_turn_back(host: PhotoHost, make: Maker) -> None:
    host.answer = drip
    fetcher = make(host, downloads=1)
    task = asyncio.create_task(fetcher.fetch(host.url))
    async with asyncio.timeout(5):
        while not host.requests:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.wait_for(host.hung_up.wait(), 5)
    host.answer = answer()
    assert await fetcher.fetch(host.url) == BODY


# Connections


async def test_connection_is_kept_for_the_next_photo(host: PhotoHost, make: Maker) -> None:
    fetcher = make(host)
    for _ in range(5):
        await fetcher.fetch(host.url)
    assert host.connections == 1


async def test_connection_that_the_host_closed_meanwhile_is_replaced(host: PhotoHost, make: Maker) -> None:
    async def once(writer: asyncio.StreamWriter) -> None:
        writer.write(answer())
        writer.close()

    host.answer = once
    fetcher = make(host)
    assert [await fetcher.fetch(host.url) for _ in range(3)] == [BODY] * 3


async def test_dropped_connection_is_tried_once_more(host: PhotoHost, make: Maker) -> None:
    async def drop(writer: asyncio.StreamWriter) -> None:
        host.answer = answer()
        writer.close()

    host.answer = drop
    assert await make(host).fetch(host.url) == BODY
    assert host.connections == 2


@pytest.mark.parametrize(
    "start", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nX", answer(BODY, "Content-Length: 8000")]
)
async def test_host_that_always_breaks_off_is_unavailable(start: bytes, host: PhotoHost, make: Maker) -> None:
    async def broken(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        writer.close()

    host.answer = broken
    assert isinstance(await failure(make(host), host.url), ImageUnavailable)
    assert host.connections == fetcher_module.ATTEMPTS


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: -5",
        "Content-Length: x",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: gzip",
        "Broken header",
        "X: " + "y" * 200_000,
    ],
)
async def test_malformed_answer_is_unavailable(head: str, host: PhotoHost, make: Maker) -> None:
    host.answer = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n{head}\r\n\r\n".encode() + BODY
    assert isinstance(await failure(make(host), host.url), ImageUnavailable)


async def test_closed_port_is_unavailable(host: PhotoHost, make: Maker) -> None:
    host.stop()
    assert isinstance(await failure(make(host), host.url), ImageUnavailable)


async def test_unknown_name_is_unavailable(make: Maker) -> None:
    error = await failure(make(resolver=resolving(*[[]] * fetcher_module.ATTEMPTS)), "https://nowhere.example" + SECRET)
    assert isinstance(error, ImageUnavailable)


# The guard


@pytest.mark.parametrize(
    "name",
    [
        *("127.0.0.1", "127.0.0.1.", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1"),
        *("0.0.0.0", "0", "127.255.255.254", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"),
        *("[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost", "localhost.", "LOCALHOST"),
        *("\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "user@127.0.0.1", "127.0.0.1:80@127.0.0.1"),
    ],
)
async def test_loopback_is_refused_in_every_spelling_without_a_connection(
    name: str, host: PhotoHost, make: Maker
) -> None:
    assert isinstance(await failure(make(), f"http://{name}:{host.port}{SECRET}"), ImageRefused)
    await asyncio.sleep(0)
    assert host.connections == 0


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "100.64.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "224.0.0.1", "fd00::1", "fe80::1%eth0"],
)
async def test_name_that_leads_to_a_private_address_is_refused_without_a_connection(
    address: str, make: Maker, wire: Reached
) -> None:
    for answers in ([address], [PUBLIC, address]):
        fetcher = make(resolver=resolving(answers))
        assert isinstance(await failure(fetcher, "http://photos.example" + SECRET), ImageRefused)
    assert wire == []


async def test_name_is_resolved_once_and_the_checked_address_connected_to(
    host: PhotoHost, make: Maker, wire: Reached
) -> None:
    fetcher = make(resolver=resolving([PUBLIC]))
    assert await fetcher.fetch("http://photos.example/a.jpg") == BODY
    assert wire == [(PUBLIC, 80)]
    assert "Host: photos.example\r\n" in host.requests[0]


async def test_rebinding_name_is_refused_as_soon_as_it_resolves_to_a_private_address(
    host: PhotoHost, make: Maker, wire: Reached
) -> None:
    async def once(writer: asyncio.StreamWriter) -> None:
        writer.write(answer())
        writer.close()

    host.answer = once
    fetcher = make(resolver=resolving([PUBLIC], ["127.0.0.1"]))
    await fetcher.fetch("http://photos.example/a.jpg")
    await asyncio.sleep(0.05)
    assert isinstance(await failure(fetcher, "http://photos.example" + SECRET), ImageRefused)
    assert wire == [(PUBLIC, 80)]


async def test_retry_after_a_dropped_connection_checks_the_address_again(
    host: PhotoHost, make: Maker, wire: Reached
) -> None:
    async def drop(writer: asyncio.StreamWriter) -> None:
        writer.close()

    host.answer = drop
    fetcher = make(resolver=resolving([PUBLIC], ["127.0.0.1"]))
    assert isinstance(await failure(fetcher, "http://photos.example" + SECRET), ImageRefused)
    assert wire == [(PUBLIC, 80)]


@pytest.mark.parametrize("url", ["http://127.0.0.1:{other}/", "https://127.0.0.1:{port}/", "http://localhost:{port}/"])
async def test_trust_covers_the_whole_origin_only(url: str, host: PhotoHost, make: Maker) -> None:
    fetcher = make(host)
    await fetcher.fetch(host.url)
    target = url.format(port=host.port, other=host.port + 1 if host.port < 65535 else 1024)
    assert isinstance(await failure(fetcher, target), ImageRefused)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:{}/", "http://user@127.0.0.1:{}/", "http://127.1:{}/"])
async def test_trusted_origin_still_needs_a_plain_url(url: str, host: PhotoHost, make: Maker) -> None:
    assert isinstance(await failure(make(host), url.format(host.port)), ImageRefused)
    assert host.connections == 0


# TLS


@pytest.fixture
async def tls_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[PhotoHost]:
    """A photo host whose certificate, from an authority that SSL_CERT_FILE names, is for photos.example alone."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("photos.example").configure_cert(context)
    photo_host = PhotoHost()
    context.sni_callback = lambda _, name, __: photo_host.names.append(name)
    await photo_host.start(context)
    yield photo_host
    photo_host.stop()


@pytest.fixture
def host_behind(tls_host: PhotoHost, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = Connection.open

    async def connect_to_host(addresses: list[str], port: int, timeout: float) -> Connection:
        return await connect(["127.0.0.1"], tls_host.port, timeout)

    monkeypatch.setattr(Connection, "open", connect_to_host)


@pytest.mark.usefixtures("host_behind")
async def test_certificate_is_verified_for_the_name_although_an_address_is_connected_to(
    tls_host: PhotoHost, make: Maker
) -> None:
    fetcher = make(resolver=resolving([PUBLIC]))
    assert await fetcher.fetch("https://photos.example/a.jpg") == BODY
    assert tls_host.names == ["photos.example"]


@pytest.mark.usefixtures("host_behind")
@pytest.mark.parametrize("name", ["other.example", PUBLIC])
async def test_certificate_for_another_name_is_not_accepted(name: str, tls_host: PhotoHost, make: Maker) -> None:
    fetcher = make(resolver=resolving(*[[PUBLIC]] * fetcher_module.ATTEMPTS))
    assert isinstance(await failure(fetcher, f"https://{name}{SECRET}"), ImageUnavailable)
    assert tls_host.requests == []


@pytest.mark.usefixtures("host_behind")
async def test_certificate_of_an_unknown_authority_is_not_accepted(
    tls_host: PhotoHost, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    fetcher = make(resolver=resolving(*[[PUBLIC]] * fetcher_module.ATTEMPTS))
    assert isinstance(await failure(fetcher, "https://photos.example" + SECRET), ImageUnavailable)
    assert tls_host.requests == []


async def test_trusted_origin_is_verified_like_any_other(tls_host: PhotoHost, make: Maker) -> None:
    assert isinstance(await failure(make(tls_host), tls_host.url), ImageUnavailable)
    assert tls_host.requests == []
