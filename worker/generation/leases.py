"""Who works on which session: a key in Redis that its holder renews, so that nobody else touches the session."""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable
from worker.generation import keys
from worker.generation.retrying import retry_for, until_available
from worker.logs import bound, get_logger

log = get_logger(__name__)

#: `begun` marks outlive any generation and every retry of it.
_BEGUN_SECONDS = 24 * 3600

#: How soon a renewal that failed is tried again.
_AGAIN_SECONDS = 1.0
#: Of the connections of the client: a crowd that comes or goes leaves some to the renewal.
_CROWD = 16

#: Takes the lease and notes who was the first to begin. -> 0 somebody holds it | 1 again | 2 first to begin
#: May be repeated with the same token: the answer to an earlier try may have been lost.
_ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('PERSIST', KEYS[1]) -- a full Redis takes the SET after it (see `room`)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', ARGV[3]) then return 2 end
return redis.call('GET', KEYS[2]) == ARGV[1] and 2 or 1
"""
#: Renews any number of leases: two keys and a token each. Takes back a lease that ran out and that no other process
#: has (Redis was away, the process was stopped), unless its session was ended, which deletes the mark. -> 1 or 0 each
_RENEW = """
local kept = {}
for i = 1, #KEYS / 2 do
  local lease, mark, token = KEYS[2 * i - 1], KEYS[2 * i], ARGV[i + 1]
  local holder = redis.call('GET', lease)
  local ours = holder == token or not holder and redis.call('EXISTS', mark) == 1
  if ours then
    redis.call('PERSIST', lease)
    redis.call('SET', lease, token, 'PX', ARGV[1])
  end
  kept[i] = ours and 1 or 0
end
return kept
"""
_RELEASE = """
local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] then redis.call('DEL', unpack(KEYS)) end
"""


@dataclass(frozen=True)
class Lease:
    """`first`: no earlier holder began the session and vanished. `context` is what its log lines carry."""

    session_id: UUID
    token: str
    first: bool
    context: dict[str, Any] = field(default_factory=dict, compare=False)


class Leases:
    """The leases that this process holds; `renew_forever` keeps them."""

    def __init__(self, redis: Redis, instance: str, seconds: float) -> None:
        self._redis = redis
        self._instance = instance
        self._milliseconds = int(seconds * 1000)
        self._held: dict[str, Lease] = {}
        self._crowd = asyncio.Semaphore(_CROWD)
        self._acquire = redis.register_script(_ACQUIRE)
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)

    @property
    def held(self) -> int:
        """How many sessions this process works on."""
        return len(self._held)

    async def acquire(self, session_id: UUID) -> Lease | None:
        """The lease, or None while somebody else (or another message of this process) holds it; waits for Redis."""
        token = f"{self._instance}:{uuid4().hex[:8]}"
        names = [keys.lease(session_id), keys.begun(session_id)]
        # One token for all tries: a lease that nobody knows of would make the next taker drop the message.
        result = await until_available(self._ask, self._acquire, names, [token, self._milliseconds, _BEGUN_SECONDS])
        if not result:
            return None
        self._held[token] = Lease(session_id, token, first=result == 2, context=bound())
        return self._held[token]

    async def keep(self, lease: Lease) -> bool:
        """Whether it is still ours, and now for its full time; false when somebody else took it over or ended it.

        Raises:
            ServiceUnavailable: Redis did not say.
        """
        (kept,) = await self._keep([lease])
        return kept

    async def release(self, lease: Lease) -> None:
        """Give it back, with the marks of the session; returns when it is free, if need be because it ran out."""
        self._held.pop(lease.token, None)
        names = [keys.lease(lease.session_id), keys.begun(lease.session_id), keys.deaths(lease.session_id)]
        try:
            await retry_for(self._milliseconds / 1000)(self._ask, self._release, names, [lease.token])
        except RedisError as error:
            log.warning("lease_not_released", session_id=str(lease.session_id), error=type(error).__name__)

    async def renew_forever(self) -> None:
        """Renew everything that is held, three times per lease time and in one round trip."""
        interval = self._milliseconds / 3000
        pause = interval
        while True:
            await asyncio.sleep(pause)
            pause = interval
            held = list(self._held.values())
            try:
                await self._keep(held)
            except ServiceUnavailable as error:
                log.warning("leases_not_renewed", error=str(error), leases=len(held))
                pause = min(interval, _AGAIN_SECONDS)

    async def _ask(self, script: AsyncScript, names: list[str], arguments: list[str | int]) -> Any:
        async with self._crowd:
            return await script(keys=names, args=arguments)

    async def _keep(self, leases: list[Lease]) -> list[bool]:
        names = [name(lease.session_id) for lease in leases for name in (keys.lease, keys.begun)]
        if not names:
            return []
        try:
            answers = await self._renew(keys=names, args=[self._milliseconds, *(lease.token for lease in leases)])
        except (RedisError, OSError) as error:
            raise ServiceUnavailable(f"Redis did not renew the leases: {type(error).__name__}") from error
        for lease, kept in zip(leases, answers, strict=True):
            if not kept and self._held.pop(lease.token, None) is not None:
                # The work goes on until it asks; the SQL functions decide whose result counts.
                log.warning("lease_lost", **{"session_id": str(lease.session_id), **lease.context})
        return [bool(kept) for kept in answers]
