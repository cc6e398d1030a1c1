"""Leases of sessions: a key in Redis that its holder renews, so that no other process touches the session."""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable
from worker.generation import keys, odd
from worker.generation.retrying import retry_for, until_available
from worker.generation.sessions.lease_scripts import ACQUIRE, GET, NOTE, RELEASE, RELEASE_UNSTARTED, RENEW
from worker.generation.sessions.marks import Mark, Receipt, Stage
from worker.logs import bound, get_logger

log = get_logger(__name__)

#: Marks outlive any generation and every retry of it.
_MARK_SECONDS = 24 * 3600

#: How soon a renewal that failed is tried again.
_AGAIN_SECONDS = 1.0
#: Of the connections of the client: a crowd that comes or goes leaves some to the renewal.
_CROWD = 16


@dataclass(frozen=True)
class Lease:
    """`mark` is the session's mark when the lease was taken. `context` has the fields of its log lines."""

    session_id: UUID
    token: str
    mark: Mark
    context: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def first(self) -> bool:
        """Tell if no worker started this session before and vanished."""
        return self.mark.stage is Stage.STARTED and self.mark.starts == 1


class Leases:
    """The leases that this process holds; `renew_forever` keeps them."""

    def __init__(self, redis: Redis, instance: str, seconds: float) -> None:
        self._redis = redis
        self._instance = instance
        self._milliseconds = int(seconds * 1000)
        self._held: dict[str, Lease] = {}
        self._crowd = asyncio.Semaphore(_CROWD)
        self._acquire = redis.register_script(GET + ACQUIRE)
        self._renew = redis.register_script(GET + RENEW)
        self._note = redis.register_script(GET + NOTE)
        self._release = redis.register_script(GET + RELEASE)
        self._release_unstarted = redis.register_script(GET + RELEASE_UNSTARTED)

    @property
    def held(self) -> int:
        """Number of sessions that this process works on."""
        return len(self._held)

    async def acquire(self, session_id: UUID) -> Lease | None:
        """The lease, or None while another process (or another message of this process) holds it; waits for Redis."""
        token = f"{self._instance}:{uuid4().hex[:8]}"
        names = [keys.lease(session_id), keys.begun(session_id)]
        # One token for all tries: a lease that no process knows of would make the next taker drop the message.
        mark = await until_available(self._ask, self._acquire, names, [token, self._milliseconds, _MARK_SECONDS])
        if mark is None:
            return None
        self._held[token] = Lease(session_id, token, Mark.read(mark), context=bound())
        return self._held[token]

    async def keep(self, lease: Lease) -> bool:
        """Renew the lease for its full time; raises ServiceUnavailable. Return False if it was lost or ended."""
        (kept,) = await self._keep([lease])
        return kept

    async def note(self, lease: Lease, stage: Stage, receipt: Receipt | None = None) -> bool:
        """Do what `keep` does and note the session's progress; returns and raises the same."""
        mark = Mark(stage, lease.mark.starts, lease.token, receipt or Receipt())
        names = [keys.lease(lease.session_id), keys.begun(lease.session_id)]
        arguments: list[str | int] = [lease.token, self._milliseconds, str(mark), _MARK_SECONDS, lease.mark.token]
        try:
            kept = await self._note(keys=names, args=arguments)
        except (RedisError, OSError) as error:
            raise ServiceUnavailable(f"Redis did not note the stage {stage}: {type(error).__name__}") from error
        self._learn(lease, kept=bool(kept))
        return bool(kept)

    async def release(self, lease: Lease, *, keep_mark: bool = False) -> None:
        """Release the lease and delete the marks of the session; without Redis, wait until the lease has run out.

        `keep_mark` is for a session that this worker has not started: its mark is as the worker before left it.
        """
        self._held.pop(lease.token, None)
        names = [keys.lease(lease.session_id), keys.begun(lease.session_id)]
        names += [] if keep_mark else [keys.deaths(lease.session_id)]
        script = self._release_unstarted if keep_mark else self._release
        arguments: list[str | int] = [lease.token, _MARK_SECONDS, lease.mark.token]
        try:
            await retry_for(self._milliseconds / 1000)(self._ask, script, names, arguments)
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
            except Exception as error:
                odd.note("part", "leases", error)
                pause = min(interval, _AGAIN_SECONDS)

    async def _ask(self, script: AsyncScript, names: list[str], arguments: list[str | int]) -> Any:
        async with self._crowd:
            return await script(keys=names, args=arguments)

    async def _keep(self, leases: list[Lease]) -> list[bool]:
        names = [name(lease.session_id) for lease in leases for name in (keys.lease, keys.begun)]
        if not names:
            return []
        tokens = [token for lease in leases for token in (lease.token, lease.mark.token)]
        try:
            answers = await self._renew(keys=names, args=[self._milliseconds, *tokens])
        except (RedisError, OSError) as error:
            raise ServiceUnavailable(f"Redis did not renew the leases: {type(error).__name__}") from error
        for lease, kept in zip(leases, answers, strict=True):
            self._learn(lease, kept=bool(kept))
        return [bool(kept) for kept in answers]

    def _learn(self, lease: Lease, *, kept: bool) -> None:
        if not kept and self._held.pop(lease.token, None) is not None:
            # The work goes on until it asks; the SQL functions decide whose result counts.
            log.warning("lease_lost", **{"session_id": str(lease.session_id), **lease.context})
