"""Patience with unavailable services: the same call again, at most five seconds apart, until the service answers."""

from redis.exceptions import RedisError
from stamina import AsyncRetryingCaller, BoundAsyncRetryingCaller

from worker.errors import ServiceUnavailable

#: Errors that mean "not now"; every other error is an answer.
AWAY = (ServiceUnavailable, RedisError)
MAX_WAIT_SECONDS = 5.0


def retry_for(seconds: float | None) -> BoundAsyncRetryingCaller:
    """Return a caller that raises the call's last error once `seconds` are over (None: never, 0: at once)."""
    return AsyncRetryingCaller(
        attempts=None, timeout=seconds, wait_initial=0.1, wait_jitter=0.2, wait_max=MAX_WAIT_SECONDS
    ).on(AWAY)


until_available = retry_for(None)
