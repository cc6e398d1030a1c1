"""Open sessions on which nobody works any more, or which have been open for too long."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.audit.ledger import Row
from worker.generation.audit.report import Finding, Report
from worker.generation.channel import Channel
from worker.generation.claims import Claims
from worker.generation.message import identify

#: A worker ends such a session within its grace period (ORPHAN_GRACE_SECONDS, 120) and a sweep or two.
UNACCOUNTED_SECONDS = 300
#: However long the queue is, nobody should wait for this.
OPEN_SECONDS = 3600

OpenSession = tuple[Channel, Row]


async def check_stuck(sessions: list[OpenSession], redis: Redis | None, report: Report) -> None:
    """Write the stuck ones into the report. Without Redis only their age can tell; raises RedisError, OSError."""
    report.redis_read = redis is not None
    now = datetime.now(UTC)
    old = [(channel, row, (now - _created(row)).total_seconds()) for channel, row in sessions]
    suspects = [row["id"] for _, row, age in old if age > UNACCOUNTED_SECONDS]
    unaccounted = await _unaccounted(suspects, redis) if redis and suspects else set()
    for channel, row, age in old:
        if row["id"] in unaccounted or age > OPEN_SECONDS:
            who = "nobody works on it" if row["id"] in unaccounted else "it is still accounted for" if redis else ""
            detail = ", ".join(filter(None, [f"{row['status']} for {age / 60:.0f} min", who]))
            owner, credits = row[channel.owner_column], row["credits_used"] or 0
            report.wrong.append(
                Finding("stuck", channel, owner, credits, row["id"], row.get("request_id"), detail=detail)
            )


async def _unaccounted(session_ids: list[str], redis: Redis) -> set[str]:
    """Those that are neither queued nor claimed, that nobody has a lease on and whose outcome is not known."""
    lists: Any = redis  # redis-py's annotations know only text
    queued = {str(known.id) for payload in await Claims(redis, "", 1).accounted() if (known := identify(payload))}
    settled = {UUID(name.decode()) for name in await lists.hkeys(keys.SETTLEMENTS)}
    left = [each for each in session_ids if each not in queued and UUID(each) not in settled]
    async with redis.pipeline(transaction=False) as pipe:
        for session_id in left:
            pipe.exists(keys.lease(session_id))
        leased = await pipe.execute()
    return {session_id for session_id, exists in zip(left, leased, strict=True) if not exists}


def _created(row: Row) -> datetime:
    moment = datetime.fromisoformat(row["created_at"])
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
