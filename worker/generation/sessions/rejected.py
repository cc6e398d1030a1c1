"""Outcomes that the database rejects for good: kept in Redis for an operator, out of the way of all others."""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from redis.asyncio import Redis

from worker.generation import keys

_ERROR_CHARACTERS = 500
#: From one hash to the other, if it is still there: both or nothing.
_MOVE = """
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""
#: HDEL first: a full Redis takes the HSET after it (see `room`).
_SET_ASIDE = """
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
"""


@dataclass(frozen=True)
class RejectedOutcome:
    """One outcome, and the database's reason."""

    session_id: str
    #: The outcome as JSON, or whatever the entry was.
    outcome: str
    error: str
    #: Seconds since 1970.
    time: float

    def field(self, name: str) -> str:
        """Return a field of the outcome for people, empty if it cannot be read."""
        try:
            return str(json.loads(self.outcome).get(name, ""))
        except (ValueError, AttributeError):
            return ""


class Rejected:
    """All methods raise what Redis raises."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text
        self._move = redis.register_script(_MOVE)
        self._set_aside = redis.register_script(_SET_ASIDE)

    async def add(self, session_id: str, outcome: str, error: str) -> None:
        """Set the outcome aside: no worker writes it any more."""
        kept = asdict(RejectedOutcome(session_id, outcome, error[:_ERROR_CHARACTERS], time.time()))
        await self._set_aside(keys=[keys.SETTLEMENTS, keys.REJECTED], args=[session_id, json.dumps(kept)])

    async def list(self) -> list[RejectedOutcome]:
        """All rejected outcomes, oldest first."""
        found = [
            _read(name.decode(errors="replace"), value)
            for name, value in (await self._redis.hgetall(keys.REJECTED)).items()
        ]
        return sorted(found, key=lambda rejected: rejected.time)

    async def retry(self, rejected: RejectedOutcome) -> bool:
        """Let a worker write the outcome again. Return False if the outcome is gone."""
        names = [keys.REJECTED, keys.SETTLEMENTS]
        return bool(await self._move(keys=names, args=[rejected.session_id, rejected.outcome]))

    async def drop(self, rejected: RejectedOutcome) -> bool:
        """Delete the outcome, which an operator has settled by hand. Return False if the outcome is gone."""
        return bool(await self._redis.hdel(keys.REJECTED, rejected.session_id))


def _read(session_id: str, kept: bytes) -> RejectedOutcome:
    try:
        return RejectedOutcome(**json.loads(kept))
    except (ValueError, TypeError):
        return RejectedOutcome(session_id, kept.decode(errors="replace"), "the entry cannot be read", 0.0)
