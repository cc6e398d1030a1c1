"""Connections to Redis that survive a failover and a managed service: what redis-py leaves to its user.

A server can be there and take no writes: a replica after a failover, a server that loads its data or cannot save it.
redis-py keeps such a connection for good. Here its answer ends the connection, so that the next try looks the address
up again and finds the new primary.
"""

from asyncio import CancelledError, current_task
from typing import Any

import redis
from redis import asyncio
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

#: What the first word of such an answer means.
_MEANINGS = {
    "READONLY": "Redis is a read-only replica: a failover goes on, or REDIS_URL names a replica.",
    "UNBLOCKED": "Redis has become a replica: a failover goes on.",
    "MASTERDOWN": "Redis is a replica without its primary: a failover goes on, or the primary is down.",
    "NOREPLICAS": "Redis has too few replicas and takes no writes (min-replicas-to-write).",
    "MISCONF": "Redis cannot save its data and takes no writes: look at its disk.",
    "LOADING": "Redis loads its data after a start.",
}


class TakesNoWrites(redis.ConnectionError):
    """The server is there and takes no writes now; nothing of the command was done."""


class Connection(asyncio.Connection):
    """A connection that ends with the server's role, and loses no cancellation of its task."""

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        """Write a command.

        Python 3.11's `asyncio.wait_for`, which redis-py writes with, loses a cancellation that comes as the writing
        ends or fails: a consumer that was to stop took the next message.
        """
        task = current_task()
        before = task.cancelling() if task else 0
        try:
            await super().send_packed_command(*arguments, **options)
        except RedisError:
            if not task or task.cancelling() == before:
                raise
        if task and task.cancelling() > before:
            await self.disconnect(nowait=True)  # the answer to the command is not read
            raise CancelledError

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read an answer; raises TakesNoWrites."""
        try:
            return await super().read_response(*arguments, **options)
        except (ResponseError, BusyLoadingError) as error:
            if meaning := _meaning(error):
                await self.disconnect(nowait=True)
                raise TakesNoWrites(meaning) from error
            raise


class SSLConnection(Connection, asyncio.SSLConnection):
    """The same with TLS."""


class BlockingConnection(redis.Connection):
    """The same for Celery, whose client blocks."""

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read an answer; raises TakesNoWrites."""
        try:
            return super().read_response(*arguments, **options)
        except (ResponseError, BusyLoadingError) as error:
            if meaning := _meaning(error):
                self.disconnect()  # type: ignore[no-untyped-call]
                raise TakesNoWrites(meaning) from error
            raise


class BlockingSSLConnection(BlockingConnection, redis.SSLConnection):
    """The same with TLS."""


def problem(error: RedisError | OSError) -> str:
    """An error as a sentence for an operator."""
    return str(error) if isinstance(error, TakesNoWrites) else f"Redis does not answer: {type(error).__name__}."


def _meaning(error: RedisError) -> str:
    code = getattr(error, "status_code", None) or str(error).split(" ", 1)[0]
    return _MEANINGS.get(code, "")
