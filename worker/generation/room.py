"""Writes that a full Redis has to take, because they empty it or keep what must not be lost.

At `maxmemory` Redis refuses every command that could take memory, also a move from one list to another. Of a script it
checks the first write only: after a command that takes no memory all others pass, from Redis 6.2 on (the script flag
allow-oom came with Redis 7). Memory that the worker takes in this way is bounded by its slots.
"""

from typing import Any

import redis
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

#: PERSIST changes nothing: for keys without a time to live.
_INSIST = """
redis.call('PERSIST', KEYS[1])
return redis.call(unpack(ARGV))
"""


async def insist(client: Redis, command: str, key: str, *arguments: str | bytes | int) -> Any:
    """Run a command on one key, which has no time to live or gets a new one; returns the answer as Redis gives it."""
    try:
        return await client.execute_command(command, key, *arguments)  # type: ignore[no-untyped-call]
    except OutOfMemoryError:
        evaluated: Any = client.eval(_INSIST, 1, key, command, key, *arguments)
        return await evaluated


class InsistingRedis(redis.Redis):
    """A client of the blocking kind whose single commands a full Redis takes; for Celery."""

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Run a command, as `insist` does."""
        try:
            return super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
        except OutOfMemoryError:
            return self.eval(_INSIST, 1, arguments[1], *arguments)
