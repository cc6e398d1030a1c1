"""The guarded download of a customer's photo; both halves of the worker get every picture through it."""

import asyncio
import time
from collections.abc import Callable

import httpcore
import stamina

from worker import __version__
from worker.errors import ImageInvalid, ImageTooLarge, ImageUnavailable
from worker.photos.guard import CONNECT_TIMEOUT_SECONDS, Resolver, resolve
from worker.photos.labels import compression, other_kind, retry_after_seconds
from worker.photos.pools import Pools
from worker.photos.url import Location, locate

#: Of one photo, the first one included; the fetch's whole time ends them, too.
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.2
#: A host that is silent for so long in the middle of an answer is asked anew.
SILENCE_SECONDS = 15.0

#: A body may come in so many parts, and one more for each so many bytes.
_MAX_SMALL_PARTS, _SMALL_PART_BYTES = 1000, 256

_HEADERS = [
    (b"User-Agent", f"WearOn-Worker/{__version__}".encode()),
    # JPEG first where the host negotiates: it is the only format that decodes at reduced size.
    (b"Accept", b"image/jpeg, image/png;q=0.8, image/webp;q=0.8, image/avif;q=0.5"),
    (b"Accept-Encoding", b"identity"),
]
_TIMEOUTS = {"connect": CONNECT_TIMEOUT_SECONDS, "read": SILENCE_SECONDS}


class _Passing(ImageUnavailable):
    """The host may do better at the next attempt; `retry_after` is what it asked for, in seconds."""

    def __init__(self, detail: str, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class ImageFetcher:
    """Downloads photos over kept-alive connections; belongs to one event loop."""

    def __init__(
        self,
        *,
        trusted_origins: frozenset[str],
        max_bytes: int,
        timeout_seconds: float,
        downloads: int,
        resolver: Resolver = resolve,
    ) -> None:
        """`trusted_origins` may lead to private addresses.

        At most `downloads` run at once and further ones wait, so that they hold `downloads` x `max_bytes` of memory.
        """
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._pools = Pools(trusted_origins, downloads, resolver=resolver)
        self._turns = asyncio.Semaphore(downloads)

    async def fetch(self, url: str, on_size: Callable[[int], None] | None = None) -> bytes:
        """The bytes behind `url`, no longer than the limit; whether they are a picture is for the decoder to say.

        `on_size` is called before the first byte comes, with the most that the answer may have. A host that answers 429
        or 5xx, is silent or breaks off is asked again within the time.

        Raises:
            ImageRefused: the URL, or an address that its host resolves to, is not allowed; nothing was connected to.
            ImageUnavailable: no complete answer with status 200 within the time; redirects are not followed.
            ImageTooLarge: more bytes than the limit; the connection is closed at once.
            ImageInvalid: the answer is labelled as something that is clearly no picture, or compressed.
        """
        location = locate(url)
        # Waiting for a turn is not the host's fault and does not count.
        async with self._turns:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    return await self._download(location, on_size)
            except TimeoutError:
                raise ImageUnavailable(
                    f"Photo host {location.host} did not deliver within {self._timeout_seconds:g} s."
                ) from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pools.aclose()

    async def _download(self, location: Location, on_size: Callable[[int], None] | None) -> bytes:
        deadline = time.monotonic() + self._timeout_seconds

        def pause(error: Exception) -> bool | float:
            if not isinstance(error, _Passing) or time.monotonic() + error.retry_after >= deadline:
                return False
            return error.retry_after or True

        attempts = stamina.retry_context(
            on=pause, attempts=ATTEMPTS, timeout=None, wait_initial=FIRST_PAUSE_SECONDS, wait_jitter=FIRST_PAUSE_SECONDS
        )
        async for attempt in attempts:
            with attempt:
                return await self._attempt(location, on_size)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _attempt(self, location: Location, on_size: Callable[[int], None] | None) -> bytes:
        try:
            return await self._answer(location, on_size)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            # The name of the error only: texts may quote what the host sent, and with it a signed URL.
            raise _Passing(f"Photo host {location.host}: {type(error).__name__}.") from None

    async def _answer(self, location: Location, on_size: Callable[[int], None] | None) -> bytes:
        async with self._pools.stream("GET", location, _HEADERS, _TIMEOUTS) as response:
            size = self._check(response, location.host)
            if on_size:
                on_size(size)
            parts, size = list[bytes](), 0
            async for part in response.aiter_stream():
                size += len(part)
                if size > self._max_bytes:
                    raise self._too_large(size)
                parts.append(part)
                if len(parts) > _MAX_SMALL_PARTS + size // _SMALL_PART_BYTES:
                    # Each part costs the event loop as much as 10 kB of a picture.
                    raise ImageUnavailable(f"Photo host {location.host} sent its answer in too small parts.")
            return b"".join(parts)

    def _check(self, response: httpcore.Response, host: str) -> int:
        """Refuse an answer by its head. Return the most bytes that may come."""
        headers: dict[str, list[str]] = {}
        for name, value in response.headers:
            headers.setdefault(name.lower().decode("latin-1"), []).append(value.decode("latin-1"))
        if response.status == 429 or response.status >= 500:
            asked = retry_after_seconds(headers.get("retry-after", [""])[0])
            raise _Passing(f"Photo host {host} answered {response.status}.", asked)
        if response.status != 200:
            raise ImageUnavailable(f"Photo host {host} answered {response.status}.")
        if kind := other_kind(headers.get("content-type", [""])[0]):
            raise ImageInvalid(f"Photo host {host} sent {kind[:60]!r}, which is no picture.")
        if coding := compression(headers.get("content-encoding", [])):
            raise ImageInvalid(f"Photo host {host} sent a body in {coding[:20]!r} although no coding was asked for.")
        length = int(headers.get("content-length", ["0"])[0])
        if length > self._max_bytes:
            raise self._too_large(length)
        return length or self._max_bytes

    def _too_large(self, size: int) -> ImageTooLarge:
        return ImageTooLarge(f"Image has at least {size:,} bytes; the limit is {self._max_bytes:,}.")
