"""Whether messages are taken from the queue at all: OpenAI without quota pauses it for every instance."""

from redis.asyncio import Redis

from worker.generation import keys


class Intake:
    """A pause ends by itself; the next message then tries whether the reason is gone."""

    def __init__(self, redis: Redis, pause_seconds: int) -> None:
        self._redis = redis
        self._pause_seconds = pause_seconds

    async def pause(self, reason: str) -> None:
        """Stop taking messages for the configured time."""
        await self._redis.set(keys.INTAKE_PAUSED, reason, ex=self._pause_seconds)

    async def paused(self) -> str:
        """Why nothing is taken; empty when messages are taken."""
        reason = await self._redis.get(keys.INTAKE_PAUSED)
        return reason.decode() if isinstance(reason, bytes) else ""
