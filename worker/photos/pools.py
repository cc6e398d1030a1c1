"""Connection pools over the guarded backend, with the trust store that every download and callback verifies against."""

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import certifi
import httpcore

from worker.photos.connection import Connection
from worker.photos.guard import GuardedBackend, Resolver, is_public, resolve
from worker.photos.url import Location

KEEPALIVE_SECONDS = 15.0


class Pools:
    """Two pools, so that a connection to a trusted origin never serves a URL that is not trusted.

    `trusted_origins` (`scheme://host:port`) may lead to private addresses; all other rules hold there, too.
    """

    def __init__(
        self, trusted_origins: frozenset[str], connections: int, *, keepalive: bool = True, resolver: Resolver = resolve
    ) -> None:
        """Allow `connections` at once, which stay open for the next request with `keepalive`."""
        self._trusted_origins = trusted_origins
        context = _tls_context()
        self._public, self._trusted = (
            httpcore.AsyncConnectionPool(
                ssl_context=context,
                max_connections=connections,
                max_keepalive_connections=connections if keepalive else 0,
                keepalive_expiry=KEEPALIVE_SECONDS,
                network_backend=GuardedBackend(resolver, allow),
            )
            for allow in (is_public, lambda _: True)
        )

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        location: Location,
        headers: list[tuple[bytes, bytes]],
        timeouts: dict[str, float],
        content: bytes | None = None,
    ) -> AsyncIterator[httpcore.Response]:
        """Send a request, with the header Host before the others."""
        connections = self._trusted if location.origin in self._trusted_origins else self._public
        host, target = location.host.encode(), location.target.encode()
        url = httpcore.URL(scheme=location.scheme.encode(), host=host, port=location.port, target=target)
        headers = [(b"Host", location.authority.encode()), *headers]
        extensions = {"timeout": timeouts}
        async with connections.stream(method, url, headers=headers, content=content, extensions=extensions) as response:
            if isinstance(stream := response.extensions["network_stream"], Connection):
                stream.expect_body()
            yield response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._public.aclose()
        await self._trusted.aclose()


def _tls_context() -> ssl.SSLContext:
    """Verify against the system's trust store (SSL_CERT_FILE, SSL_CERT_DIR), or certifi's if the system's is empty."""
    context = ssl.create_default_context()
    chosen = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if not chosen and not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context
