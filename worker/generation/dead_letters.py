"""Messages that could not be used: a bounded list, newest first, with the reason beside each."""

import json
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import uuid4

from redis.asyncio import Redis

from worker.generation import keys

#: A dead letter keeps this much of its payload; enough to replay every message that is not too large.
MAX_PAYLOAD_BYTES = 256 * 1024


@dataclass(frozen=True)
class DeadLetter:
    """One message that could not be used."""

    id: str
    reason: str
    detail: str
    #: ISO 8601, UTC.
    time: str
    #: What was on the queue, base64 because it need not be text; cut off at MAX_PAYLOAD_BYTES.
    payload: str
    payload_bytes: int

    @property
    def message(self) -> bytes:
        """The payload as it was on the queue (or its beginning)."""
        return b64decode(self.payload)

    @property
    def complete(self) -> bool:
        """Whether the whole payload was kept."""
        return len(self.message) == self.payload_bytes


class DeadLetters:
    """The list in Redis. Full means that the oldest makes room and is counted."""

    def __init__(self, redis: Redis, limit: int) -> None:
        self._redis = redis
        self._limit = limit

    async def add(self, payload: bytes, reason: str, detail: str) -> DeadLetter:
        """Keep a message that could not be used."""
        letter = DeadLetter(
            id=uuid4().hex[:12],
            reason=reason,
            detail=detail[:1000],
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            payload=b64encode(payload[:MAX_PAYLOAD_BYTES]).decode(),
            payload_bytes=len(payload),
        )
        length = await self._redis.lpush(keys.DEAD, json.dumps(asdict(letter)))
        if length > self._limit:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.ltrim(keys.DEAD, 0, self._limit - 1)
                pipe.incrby(keys.DEAD_DROPPED, length - self._limit)
                await pipe.execute()
        return letter

    async def list(self) -> list[DeadLetter]:
        """All of them, newest first."""
        return [DeadLetter(**json.loads(item)) for item in await self._redis.lrange(keys.DEAD, 0, -1)]
