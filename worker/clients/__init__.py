"""Connections to the services around us, built from the settings. Building one connects to nothing."""

import ssl
from functools import cache

import httpx
from postgrest import AsyncPostgrestClient
from redis.asyncio import BlockingConnectionPool
from storage3 import AsyncStorageClient

from worker.clients.redis import Client
from worker.clients.redis_connections import Connection, SSLConnection
from worker.settings import Settings
from worker.settings.supabase_key import is_jwt

#: A half-open connection is noticed within this; blocking commands ask for less.
REDIS_SOCKET_TIMEOUT_SECONDS = 10.0
REDIS_CONNECT_TIMEOUT_SECONDS = 5.0
#: Of one process; a generation uses Redis for moments only, so a crowd shares these.
REDIS_CONNECTIONS = 20
#: A call to the database takes milliseconds; an upload of some megabytes over a slow link takes longer.
SUPABASE_TIMEOUT = httpx.Timeout(15.0, connect=5.0, pool=30.0)
STORAGE_TIMEOUT = httpx.Timeout(60.0, connect=5.0, pool=60.0)


def redis_client(settings: Settings, url: str = "") -> Client:
    """Client of the broker, or of the Redis at `url`; `rediss://` verifies by the system's trust store."""
    url = url or settings.redis_url
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=REDIS_CONNECTIONS,
        timeout=REDIS_SOCKET_TIMEOUT_SECONDS,
        socket_timeout=REDIS_SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_CONNECT_TIMEOUT_SECONDS,
        socket_keepalive=True,
        health_check_interval=25,
    )
    pool.connection_class = SSLConnection if url.startswith("rediss://") else Connection
    client = Client.from_pool(pool)
    assert isinstance(client, Client)  # noqa: S101  # redis-py names its own class
    return client


def supabase_headers(settings: Settings) -> dict[str, str]:
    """Headers of every call to Supabase: a JWT is its own proof, the gateway makes one for every other key."""
    key = settings.supabase_service_role_key.get_secret_value()
    return {"apikey": key, "Authorization": f"Bearer {key}"} if is_jwt(key) else {"apikey": key}


def http_client(timeout: httpx.Timeout, connections: int) -> httpx.AsyncClient:
    """One pool for one service. HTTP/1.1: a connection that breaks then takes one call with it, not all."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(
        timeout=timeout, limits=limits, trust_env=False, verify=_tls(), event_hooks={"request": [_in_one_piece]}
    )


@cache
def _tls() -> ssl.SSLContext:
    """Return the trust store, a megabyte, that all clients share."""
    return httpx.create_ssl_context(trust_env=False)


async def _in_one_piece(request: httpx.Request) -> None:
    """Send a form as one piece instead of field by field."""
    await request.aread()


def database_client(settings: Settings, http: httpx.AsyncClient) -> AsyncPostgrestClient:
    """PostgREST with the service role's key; retries are ours (`sessions`), not the client's."""
    http.event_hooks = {**http.event_hooks, "response": [_raise_without_code]}
    return AsyncPostgrestClient(
        f"{settings.supabase_url}/rest/v1", headers=supabase_headers(settings), http_client=http, retry_enabled=False
    )


def storage_client(settings: Settings, http: httpx.AsyncClient) -> AsyncStorageClient:
    """Supabase Storage with the service role's key."""
    return AsyncStorageClient(f"{settings.supabase_url}/storage/v1/", supabase_headers(settings), http_client=http)


def json_object(response: httpx.Response) -> dict[str, object]:
    """The body, if it is a JSON object; empty otherwise."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


async def _raise_without_code(response: httpx.Response) -> None:
    """Raise HTTPStatusError for a refusal that is not PostgREST's own: its client would lose the status."""
    if response.is_success:
        return
    await response.aread()
    body = json_object(response)
    if not isinstance(body.get("code"), str) or not isinstance(body.get("message"), str):
        raise httpx.HTTPStatusError(f"status {response.status_code}", request=response.request, response=response)
