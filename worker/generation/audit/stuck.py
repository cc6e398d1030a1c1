"""Open sessions on which no worker works any more, or which have been open for too long."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from redis.asyncio import Redis

from worker.generation.audit.ledger import Row
from worker.generation.audit.report import Finding, Report
from worker.generation.channel import Channel
from worker.generation.message import timestamp
from worker.generation.queue.claims import Claims
from worker.generation.queue.lanes import Lanes, Rules
from worker.generation.sessions.ownership import Ownership
from worker.generation.sessions.waiting import Waiting

#: A worker ends such a session after its time to live (MESSAGE_TTL_SECONDS), in the next sweep.
UNACCOUNTED_SECONDS = 600
#: However long the queue is, no payer should wait for this (MESSAGE_TTL_MAX_SECONDS).
OPEN_SECONDS = 3600
#: Sessions that one question to Redis is about.
_PAGE = 500

OpenSession = tuple[Channel, Row]


async def check_stuck(
    sessions: list[OpenSession], redis: Redis | None, report: Report, own: set[str] | None = None
) -> None:
    """Write the stuck sessions into the report; raises RedisError, OSError.

    Without Redis, and for sessions that are not in `own` (None: all are), only the age counts.
    """
    now = datetime.now(UTC)
    old = [(channel, row, _age(row, now)) for channel, row in sessions]
    # A session that does not say when it was made may have been open for ever.
    suspects = [row for _, row, age in old if age is None or age > UNACCOUNTED_SECONDS]
    suspects = [row for row in suspects if own is None or row["id"] in own]
    unaccounted = await _unaccounted(suspects, redis) if redis and suspects else set()
    bulk = await Lanes(redis, Rules()).bulk([UUID(row["id"]) for row in suspects]) if redis else set()
    for channel, row, age in old:
        if UUID(row["id"]) in bulk:
            continue  # bulk waits for all others, and has a time to live of its own
        if row["id"] in unaccounted or (age or 0) > OPEN_SECONDS:
            since = "without a usable created_at" if age is None else f"for {age / 60:.0f} min"
            known = redis and (own is None or row["id"] in own)
            who = "nobody works on it" if row["id"] in unaccounted else "it is still accounted for" if known else ""
            detail = ", ".join(filter(None, [f"{row['status']} {since}", who]))
            owner = row[channel.owner_column]
            # One credit, whatever the row says: users may write it.
            report.wrong.append(Finding("stuck", channel, owner, 1, row["id"], row.get("request_id"), detail=detail))


async def _unaccounted(rows: Sequence[Row], redis: Redis) -> set[str]:
    """Sessions that no worker has and whose outcome is not known.

    A session that waits is accounted for by its message alone. No message is read: while there is any, the age tells.
    """
    no_messages = await Claims(redis, "", 1).are_all_empty()
    found = set()
    for start in range(0, len(rows), _PAGE):
        page = {UUID(row["id"]): row for row in rows[start : start + _PAGE]}
        marks = await Ownership(redis).marks(list(page))
        known = await Waiting(redis).known(list(page))
        for session_id, row in page.items():
            left = no_messages or (row["status"] == "processing" and marks[session_id].started)
            if left and not marks[session_id].held and session_id not in known:
                found.add(row["id"])
    return found


def _age(row: Row, now: datetime) -> float | None:
    """Return the age in seconds, None without a moment that Python knows (there are infinity and the year 10000)."""
    try:
        return (now - timestamp(row["created_at"])).total_seconds()
    except ValueError:
        return None
