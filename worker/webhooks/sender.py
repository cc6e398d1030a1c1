"""One signed HTTP request to a partner's endpoint, through the guarded connection of worker/photos."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import httpcore
from pydantic import SecretStr
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from worker import __version__
from worker.errors import ImageRefused
from worker.photos.guard import CONNECT_TIMEOUT_SECONDS
from worker.photos.labels import retry_after_seconds
from worker.photos.pools import Pools
from worker.photos.url import Location, locate

#: Time limit of one attempt: connecting, TLS and the answer's head.
LIMIT_SECONDS = 15.0
#: The answer's body says nothing to us. A little of it is read, so that the partner's server sees an orderly end.
_BODY_BYTES = 16 * 1024
_BODY_SECONDS = 1.0

Result = Literal["delivered", "rejected", "gone", "timeout", "unreachable", "refused"]
RESULTS: tuple[Result, ...] = ("delivered", "rejected", "gone", "timeout", "unreachable", "refused")


@dataclass(frozen=True)
class Answer:
    """The end of an attempt. `error` names the host at most: no path, no query, nothing that the partner sent."""

    result: Result
    status: int | None = None
    error: str | None = None
    retry_after: float = 0.0


@dataclass(frozen=True)
class Event:
    """The callback's content; `id` stays the same over all attempts."""

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]

    def body(self) -> str:
        """The JSON that is signed and sent."""
        content = {"type": self.type, "timestamp": self.timestamp, "data": self.data}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


class UrlRefused(ValueError):
    """The URL is not allowed for callbacks."""


def check_url(url: str) -> Location:
    """Take an endpoint's URL apart; raises UrlRefused, without the URL in its text."""
    try:
        location = locate(url)
    except ImageRefused as error:
        raise UrlRefused(str(error)) from None
    if location.scheme != "https":
        raise UrlRefused("URL is not https.")
    return location


class Sender:
    """Belongs to one event loop; at most `connections` attempts at once."""

    def __init__(self, *, trusted_origins: frozenset[str] = frozenset(), connections: int) -> None:
        """`trusted_origins` may lead to private addresses."""
        self._pools = Pools(trusted_origins, connections, keepalive=False)

    async def send(self, url: str, secrets: Sequence[SecretStr], event: Event) -> Answer:
        """Post the event, signed with every secret; never raises for anything that the endpoint does."""
        try:
            location, body = check_url(url), event.body()
            headers = _signed(secrets, event.id, body)
            async with asyncio.timeout(LIMIT_SECONDS) as limit:
                return await self._post(location, headers, body.encode(), limit)
        except (UrlRefused, ImageRefused, _NotSigned) as error:
            return Answer("refused", error=str(error))
        except (TimeoutError, httpcore.TimeoutException):
            return Answer("timeout", error=f"{location.host} did not answer within {LIMIT_SECONDS:g} s")
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            return Answer("unreachable", error=f"{location.host}: {type(error).__name__}")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pools.aclose()

    async def _post(
        self, location: Location, signed: list[tuple[bytes, bytes]], body: bytes, limit: asyncio.Timeout
    ) -> Answer:
        headers = [
            (b"User-Agent", f"WearOn-Worker/{__version__}".encode()),
            (b"Content-Type", b"application/json"),
            (b"Content-Length", str(len(body)).encode()),
            (b"Accept-Encoding", b"identity"),
            (b"Connection", b"close"),
            *signed,
        ]
        timeouts = {"connect": CONNECT_TIMEOUT_SECONDS, "pool": LIMIT_SECONDS}
        async with self._pools.stream("POST", location, headers, timeouts, body) as response:
            # The status has come in time, and counts: a later end of the body makes no failure of it.
            limit.reschedule(asyncio.get_running_loop().time() + 2 * _BODY_SECONDS)
            await _read_a_little(response)
            return _meaning(response, location.host)


class _NotSigned(Exception):
    """The endpoint has no usable secret."""


def _signed(secrets: Sequence[SecretStr], event_id: str, body: str) -> list[tuple[bytes, bytes]]:
    """The three headers of Standard Webhooks; one signature for each valid secret, separated by spaces."""
    now = datetime.now(UTC)
    try:
        signatures = [Webhook(secret.get_secret_value()).sign(event_id, now, body) for secret in secrets]
    except (ValueError, EmptyWebhookSecretError):
        signatures = []
    if not signatures:
        raise _NotSigned("the endpoint has no usable secret; `wearon-worker webhook rotate` makes one")
    return [
        (b"webhook-id", event_id.encode()),
        (b"webhook-timestamp", str(int(now.timestamp())).encode()),
        (b"webhook-signature", " ".join(signatures).encode()),
    ]


async def _read_a_little(response: httpcore.Response) -> None:
    """Read the start of the body without unpacking; the status counts, the rest of the body does not."""
    size = 0
    with suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError):
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in response.aiter_stream():
                size += len(part)
                if size > _BODY_BYTES:
                    return


def _meaning(response: httpcore.Response, host: str) -> Answer:
    status = response.status
    if 200 <= status < 300:  # HTTP's own numbers
        return Answer("delivered", status)
    if status == 410:
        return Answer("gone", status, f"{host} answered 410: it wants no more callbacks")
    redirects = "; redirects are not followed" if 300 <= status < 400 else ""
    asked = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"")
    return Answer(
        "rejected", status, f"{host} answered {status}{redirects}", retry_after_seconds(asked.decode("latin-1"))
    )
