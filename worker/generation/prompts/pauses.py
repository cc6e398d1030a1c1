"""Paused prompt versions, in Redis for all instances; a version that was resumed is judged from that moment on."""

import json
import time
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis

from worker.generation import keys, odd

#: Changes nothing when the state is not as it was read. A full Redis takes a write after PERSIST (see `room`).
_CHANGE = """
redis.call('PERSIST', KEYS[1])
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


@dataclass(frozen=True)
class State:
    """Paused, or resumed, with the moment (seconds since 1970) and the reason; `kept` is the entry as Redis has it."""

    paused: bool = False
    since: float = 0.0
    reason: str = ""
    kept: bytes = b""

    @classmethod
    def read(cls, version: str, kept: bytes) -> Self:
        """Read an entry. A text that no worker has written pauses nothing."""
        try:
            found = json.loads(kept)
            return cls(found["paused"] is True, float(found["since"]), str(found["reason"]), kept)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            odd.note("value", f"{keys.PROMPTS} {version}", error)
            return cls(kept=kept)


class PromptPauses:
    """All methods raise what Redis raises."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text
        self._change = redis.register_script(_CHANGE)

    async def states(self) -> dict[str, State]:
        """Return the state of each version that was ever paused or resumed."""
        kept = await self._redis.hgetall(keys.PROMPTS)
        named = {name.decode(errors="replace"): entry for name, entry in kept.items()}
        return {version: State.read(version, entry) for version, entry in named.items()}

    async def paused(self) -> frozenset[str]:
        """Versions that no session gets now."""
        return frozenset(version for version, state in (await self.states()).items() if state.paused)

    async def set(self, version: str, before: State, reason: str, *, paused: bool) -> bool:
        """Pause or resume a version. Return False if another process has changed its state meanwhile."""
        entry = json.dumps({"paused": paused, "since": time.time(), "reason": reason})
        return bool(await self._change(keys=[keys.PROMPTS], args=[version, before.kept, entry]))
