"""Connection pools over the guarded backend, with the trust store that every download and callback verifies against."""

import os
import ssl

import certifi
import httpcore

from worker.photos.guard import GuardedBackend

KEEPALIVE_SECONDS = 15.0


def pool(
    backend: GuardedBackend, context: ssl.SSLContext, connections: int, keepalive: int | None = None
) -> httpcore.AsyncConnectionPool:
    """At most `connections` at once, of which `keepalive` (None: all) stay open for the next request."""
    return httpcore.AsyncConnectionPool(
        ssl_context=context,
        max_connections=connections,
        max_keepalive_connections=connections if keepalive is None else keepalive,
        keepalive_expiry=KEEPALIVE_SECONDS,
        network_backend=backend,
    )


def tls_context() -> ssl.SSLContext:
    """Verifies against the system's trust store (SSL_CERT_FILE, SSL_CERT_DIR), or certifi's where it is empty."""
    context = ssl.create_default_context()
    chosen = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if not chosen and not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context
