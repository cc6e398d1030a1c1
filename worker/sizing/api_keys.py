"""Optional API keys of the size API, each with a limit of its own; without a key nginx alone limits a client."""

import hmac
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from math import ceil
from typing import Annotated

from fastapi import Header
from starlette.exceptions import HTTPException

from worker.settings.values import ApiKey
from worker.sizing import metrics

#: As `X-API-Key` reaches the route; read by its own name, never logged.
GivenKey = Annotated[
    str | None,
    Header(alias="X-API-Key", description="A known key has a limit of its own; without keys here it is ignored."),
]
#: Share of a minute's requests that a client may send at once.
_BURST_MINUTES = 1 / 6


class ApiKeys:
    """The known keys and what each has left; used by one thread."""

    def __init__(self, keys: Mapping[str, ApiKey], now: Callable[[], float] = time.monotonic) -> None:
        self._buckets = [_Bucket(key, now) for key in keys.values()]

    def admit(self, given: str | None) -> None:
        """Count a request against its key; raises HTTPException for a key that is unknown or used up."""
        if given is None or not self._buckets:
            return
        digest = sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
        # All are compared, each in constant time.
        found = [bucket for bucket in self._buckets if hmac.compare_digest(bucket.key.sha256, digest)]
        if not found:
            metrics.ended("key_unknown")
            raise HTTPException(401, "The API key in X-API-Key is not known here.")
        if wait := found[0].take():
            metrics.ended("key_limited")
            text = f"This API key allows {found[0].key.per_minute} requests a minute. Please try again in {wait} s."
            raise HTTPException(429, text, {"Retry-After": str(wait)})


class _Bucket:
    """A token bucket."""

    def __init__(self, key: ApiKey, now: Callable[[], float]) -> None:
        self.key, self._now = key, now
        self._rate = key.per_minute / 60
        self._most = max(1.0, key.per_minute * _BURST_MINUTES)
        self._left, self._at = self._most, now()

    def take(self) -> int:
        """Take one token. Return the seconds to wait for a token, 0 if there was one."""
        at = self._now()
        self._left, self._at = min(self._most, self._left + (at - self._at) * self._rate), at
        if self._left < 1:
            return ceil((1 - self._left) / self._rate)
        self._left -= 1
        return 0
