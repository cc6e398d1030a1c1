"""Whether messages are taken from the queue at all.

There are three reasons to take none, each with an end of its own: an operator's pause lasts until `resume`, OpenAI
without quota pauses every instance for a while, a rollout holds its new container back by a file until that has passed.
"""

from pathlib import Path

from redis.asyncio import Redis

from worker.generation import keys

#: What /health says while the file of a rollout is there.
HELD = "rollout"


class Intake:
    """Asked before each message is taken."""

    def __init__(self, redis: Redis, pause_seconds: int = 0, hold_file: Path | None = None) -> None:
        self._redis = redis
        self._pause_seconds = pause_seconds
        self._hold_file = hold_file

    async def pause(self, reason: str) -> None:
        """Stop taking messages for the configured time; the next message then tries whether the reason is gone."""
        await self._redis.set(keys.INTAKE_PAUSED, reason, ex=self._pause_seconds)

    async def stop(self, reason: str) -> bool:
        """Stop taking messages, in every instance, until `resume`; -> whether they were taken until now."""
        return await self._redis.set(keys.INTAKE_STOPPED, reason, get=True) is None

    async def resume(self) -> bool:
        """End an operator's pause; -> whether there was one. A pause for want of quota goes on."""
        return bool(await self._redis.delete(keys.INTAKE_STOPPED))

    async def paused(self) -> str:
        """Why nothing is taken; empty when messages are taken."""
        if self._hold_file is not None and self._hold_file.exists():
            return HELD
        reasons = await self._redis.mget(keys.INTAKE_STOPPED, keys.INTAKE_PAUSED)
        return next((reason.decode() for reason in reasons if isinstance(reason, bytes) and reason), "")
