"""Celery's way to Redis, which waits long for a message at rest and does not delay a drain by that wait."""

from typing import Any

from kombu.transport import redis

from worker.clients.redis_connections import BlockingConnection, BlockingSSLConnection
from worker.generation.room import InsistingRedis


class Channel(redis.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel that closes at once, and that a full Redis does not refuse."""

    connection_class = BlockingConnection
    connection_class_ssl = BlockingSSLConnection

    def close(self) -> None:
        """Cut the connection of a BRPOP that waits; kombu would wait for its answer.

        A message that Redis sends at this moment stays on the claimed list, and the drain requeues it from there.
        """
        if self._in_poll:
            self._in_poll.disconnect()
        super().close()

    def _get_client(self) -> Any:
        """The class of kombu's clients."""
        return InsistingRedis


class Transport(redis.Transport):  # type: ignore[misc]  # kombu has no types
    """kombu's transport with the channel above."""

    Channel = Channel
