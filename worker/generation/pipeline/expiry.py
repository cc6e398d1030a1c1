"""A message's time to live: a shopper who has waited ten minutes is gone, and no picture is paid for."""

import time
from collections.abc import Awaitable, Callable

from worker.errors import Cancelled, MessageExpired
from worker.generation.bulk.manifest import manifest_of
from worker.generation.message import GenerationMessage
from worker.generation.pauses.pauses import Pauses
from worker.generation.retrying import until_available
from worker.settings import Settings


class Expiry:
    """Time during which the intake was paused does not count, up to a second, absolute limit; bulk has its own."""

    def __init__(
        self, pauses: Pauses, settings: Settings, is_cancelled: Callable[[str], Awaitable[bool]] | None = None
    ) -> None:
        """`is_cancelled` tells of a manifest of bulk."""
        self._is_cancelled = is_cancelled
        self._pauses = pauses
        self._limit = settings.message_ttl_seconds
        self._most = max(settings.message_ttl_max_seconds, self._limit)
        self._bulk_limit = settings.bulk_ttl_seconds

    async def check(self, message: GenerationMessage) -> None:
        """Raise MessageExpired, or Cancelled for bulk of a cancelled manifest; asks Redis only if it may be."""
        made = message.created_at.timestamp()
        if message.is_bulk:
            if (age := time.time() - made) > self._bulk_limit:
                raise MessageExpired(f"bulk message is {age:.0f} s old; the limit is {self._bulk_limit} s")
            manifest = manifest_of(message)
            if manifest and self._is_cancelled:
                cancelled = await until_available(self._is_cancelled, manifest)
                if cancelled:
                    raise Cancelled(f"manifest {manifest} was cancelled")
            return
        if not self._limit or time.time() - made <= self._limit:
            return
        times = await until_available(self._pauses.times)
        age = max(0.0, times.now - made)
        counted = age - times.paused_since(made)
        if counted > self._limit:
            raise MessageExpired(f"message waited {counted:.0f} s beside pauses; the limit is {self._limit} s")
        if age > self._most:
            raise MessageExpired(f"message is {age:.0f} s old; the limit is {self._most} s, pauses included")
