"""The guarded download of a customer's photo; both halves of the worker get every picture through it."""

import asyncio
import os
import ssl

import certifi
import httpcore

from worker import __version__
from worker.errors import ImageInvalid, ImageTooLarge, ImageUnavailable
from worker.photos.guard import CONNECT_TIMEOUT_SECONDS, GuardedBackend, Resolver, is_public, resolve
from worker.photos.url import Location, locate

CONTENT_TYPES = frozenset({"image/jpeg", "image/jpg", "image/pjpeg", "image/png", "image/webp", "image/avif"})
KEEPALIVE_SECONDS = 15.0
RETRY_PAUSE_SECONDS = 0.2

_HEADERS = [
    (b"User-Agent", f"WearOn-Worker/{__version__}".encode()),
    # JPEG first where the host negotiates: it is the only format that decodes at reduced size.
    (b"Accept", b"image/jpeg, image/png;q=0.8, image/webp;q=0.8, image/avif;q=0.5"),
    (b"Accept-Encoding", b"identity"),
]
_PASSING = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)


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
        """`trusted_origins` (`scheme://host:port`) may lead to private addresses; all other rules hold there, too.

        At most `downloads` run at once and further ones wait, so that they hold `downloads` x `max_bytes` of memory.
        """
        self._trusted_origins = trusted_origins
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        context = _tls_context()
        # Two pools, so that a connection to a trusted origin can never serve a URL that is not.
        self._public = _pool(GuardedBackend(resolver, is_public), context, downloads)
        self._trusted = _pool(GuardedBackend(resolver, lambda _: True), context, downloads)
        self._turns = asyncio.Semaphore(downloads)

    async def fetch(self, url: str) -> bytes:
        """The bytes behind `url`, labelled as an image and no longer than the limit.

        Raises:
            ImageRefused: the URL, or an address that its host resolves to, is not allowed; nothing was connected to.
            ImageUnavailable: no complete answer with status 200 within the time; redirects are not followed.
            ImageTooLarge: more bytes than the limit; the connection is closed at once.
            ImageInvalid: the answer is not labelled as a picture of a known format.
        """
        location = locate(url)
        # Waiting for a turn is not the host's fault and does not count.
        async with self._turns:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    return await self._download(location)
            except TimeoutError:
                raise ImageUnavailable(
                    f"Photo host {location.host} did not deliver within {self._timeout_seconds:g} s."
                ) from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._public.aclose()
        await self._trusted.aclose()

    async def _download(self, location: Location) -> bytes:
        try:
            return await self._attempt(location)
        except _PASSING:
            # Mostly a kept-alive connection that the host closed at the same moment.
            await asyncio.sleep(RETRY_PAUSE_SECONDS)
        try:
            return await self._attempt(location)
        except _PASSING as error:
            # The name of the error only: texts may quote what the host sent, and with it a signed URL.
            raise ImageUnavailable(f"Photo host {location.host}: {type(error).__name__}.") from None

    async def _attempt(self, location: Location) -> bytes:
        pool = self._trusted if location.origin in self._trusted_origins else self._public
        url = httpcore.URL(
            scheme=location.scheme.encode(),
            host=location.host.encode(),
            port=location.port,
            target=location.target.encode(),
        )
        headers = [(b"Host", location.authority.encode()), *_HEADERS]
        extensions = {"timeout": {"connect": CONNECT_TIMEOUT_SECONDS}}
        async with pool.stream("GET", url, headers=headers, extensions=extensions) as response:
            self._check(response, location.host)
            parts: list[bytes] = []
            size = 0
            async for part in response.aiter_stream():
                size += len(part)
                if size > self._max_bytes:
                    raise self._too_large(size)
                parts.append(part)
            return b"".join(parts)

    def _check(self, response: httpcore.Response, host: str) -> None:
        if response.status != 200:
            raise ImageUnavailable(f"Photo host {host} answered {response.status}.")
        headers = {name.lower(): value for name, value in reversed(response.headers)}
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower().decode("latin-1")
        if kind not in CONTENT_TYPES:
            raise ImageInvalid(f"Photo host {host} sent {kind[:60]!r}; JPEG, PNG, WebP and AVIF are accepted.")
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            raise ImageInvalid(f"Photo host {host} sent a compressed body although none was asked for.")
        if (length := int(headers.get(b"content-length", b"0"))) > self._max_bytes:
            raise self._too_large(length)

    def _too_large(self, size: int) -> ImageTooLarge:
        return ImageTooLarge(f"Image is at least {size / 1e6:.1f} MB; the limit is {self._max_bytes / 1e6:g} MB.")


def _pool(backend: GuardedBackend, context: ssl.SSLContext, connections: int) -> httpcore.AsyncConnectionPool:
    return httpcore.AsyncConnectionPool(
        ssl_context=context,
        max_connections=connections,
        max_keepalive_connections=connections,
        keepalive_expiry=KEEPALIVE_SECONDS,
        network_backend=backend,
    )


def _tls_context() -> ssl.SSLContext:
    """Verifies against the system's trust store (SSL_CERT_FILE, SSL_CERT_DIR), or certifi's where it is empty."""
    context = ssl.create_default_context()
    chosen = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if not chosen and not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context
