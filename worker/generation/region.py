"""The region of this worker, where several regions serve one database: its identity, and that it lives.

A region is its Redis: the identity is kept there, so that neither a new name nor a second region with the same name
changes which sessions are whose. Decision: docs/decisions/0031-regions.md
"""

import time
from typing import Any
from uuid import UUID, uuid4

from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable
from worker.generation import keys
from worker.generation.channel import SessionRef
from worker.generation.supabase import database as calls
from worker.logs import get_logger
from worker.metrics import gauge
from worker.settings import Settings

log = get_logger(__name__)

#: A region that has reported nothing for so long is silent: 30 rounds of the sweep.
SILENT_SECONDS = 300
_LOOK_SECONDS = 60.0
SILENT_SESSIONS = gauge(
    "wearon_silent_region_sessions",
    "Open sessions that regions have, or may have, that have been silent for 5 minutes.",
)

#: A session's row may be so much older than its message.
_INSERT_SECONDS = 120
#: PERSIST first: a full Redis takes the SET after it (see `room`).
_IDENTITY = """
redis.call('PERSIST', KEYS[1])
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SET', KEYS[1], ARGV[1]) end
return redis.call('GET', KEYS[1])
"""


class Region:
    """One per process. All methods raise ServiceUnavailable when Redis or the database does not answer."""

    def __init__(self, redis: Redis, database: AsyncPostgrestClient, settings: Settings) -> None:
        self.name = settings.region
        self.sweeps_orphans = settings.sweep_orphans
        ttl, most = settings.message_ttl_seconds, settings.message_ttl_max_seconds
        grace = settings.orphan_grace_seconds
        self._grace = max(most, 600) + _INSERT_SECONDS if grace is None else grace
        self._expires = max(ttl, most) + _INSERT_SECONDS if ttl else None
        self._bulk_expires = max(ttl, most, settings.bulk_ttl_seconds) + _INSERT_SECONDS if ttl else None
        self._redis = redis
        self._database = database
        self._had_twins = False
        self._silent = set[str]()
        self.looked_at = time.monotonic() - _LOOK_SECONDS

    async def id(self) -> str:
        """The identity that this region's Redis keeps; a Redis without one gets a new one."""
        # Asked each time: the Redis may have lost its data meanwhile.
        return await identity(self._redis)

    async def report(self, *, empty: bool) -> None:
        """Tell the other regions that this one lives, and whether its Redis had no message at some moment just now."""
        answer = await self._call(
            "wearon_region_report",
            p_region=await self.id(),
            p_name=self.name,
            p_empty=empty,
            p_expires_seconds=self._bulk_expires if await self._may_have_bulk() else self._expires,
        )
        twins = bool(answer.get("twins"))
        if twins and not self._had_twins:
            log.error("region_name_used_twice", name=self.name)
        self._had_twins = twins

    async def watch(self) -> None:
        """Look once a minute for silent regions that have, or may have, open sessions: no other region ends those."""
        if time.monotonic() - self.looked_at < _LOOK_SECONDS:
            return
        silent = [row for row in await self.all() if row["silent_seconds"] > SILENT_SECONDS and row["open"]]
        self.looked_at = time.monotonic()
        if {row["id"] for row in silent} - self._silent:
            log.error("silent_region_found", regions=[f"{row['name']} {row['id']}" for row in silent])
        self._silent = {row["id"] for row in silent}
        SILENT_SESSIONS.set(sum(row["open"] for row in silent))

    async def open(
        self, statuses: list[str], older_seconds: float | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Rows of open sessions that this region may end."""
        answer = await self._call(
            "wearon_region_open",
            p_region=await self.id(),
            p_statuses=statuses,
            p_orphans=self.sweeps_orphans,
            p_grace_seconds=self._grace,
            p_older_seconds=older_seconds,
            p_limit=limit,
        )
        return calls.rows(answer.get("sessions"), "channel", "id", "status", "created_at")

    async def take(self, sessions: list[SessionRef]) -> int:
        """Take over the open sessions of other regions. Return their number. Sessions of no region stay so."""
        answer = await self._call(
            "wearon_region_take",
            p_channels=[session.channel for session in sessions],
            p_sessions=[str(session.id) for session in sessions],
            p_region=await self.id(),
        )
        return int(answer["taken"])

    async def adopt(self, other: str) -> int | None:
        """Take all sessions of a region that is gone for good; None: it lives, or there is no such region."""
        adopted = (await self._call("wearon_region_adopt", p_from=other, p_region=await self.id())).get("adopted")
        return None if adopted is None else int(adopted)

    async def all(self) -> list[dict[str, Any]]:
        """All regions that the database knows, the silent ones first."""
        answer = await self._call("wearon_region_list")
        return calls.rows(answer.get("regions"), "id", "name", "silent_seconds", "open")

    async def _may_have_bulk(self) -> bool:
        """Tell if a message here has the time of bulk, as each that is not sorted into lanes yet may have."""
        try:
            return bool(await self._redis.exists(keys.BULK_SESSIONS, keys.QUEUE))
        except (RedisError, OSError) as error:
            raise ServiceUnavailable(f"Redis did not tell if it has bulk: {error}") from error

    async def _call(self, function: str, **parameters: Any) -> dict[str, Any]:
        return await calls.call(self._database, function, parameters)


async def identity(redis: Redis) -> str:
    """The identity that a Redis keeps, made if there is none."""
    try:
        kept = await redis.register_script(_IDENTITY)(keys=[keys.REGION], args=[str(uuid4())])
        return str(UUID(kept.decode()))
    except (RedisError, OSError) as error:
        raise ServiceUnavailable(f"Redis did not tell its region: {error}") from error
    except ValueError:
        raise ServiceUnavailable(f"the key {keys.REGION} in Redis is no region's identity; delete it") from None
