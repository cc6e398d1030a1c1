"""The proof itself: the database proves its ledgers, Redis says which open sessions are worked on."""

import asyncio
import time

from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable
from worker.generation.audit import ledger as ledgers
from worker.generation.audit.ledger import Ledger
from worker.generation.audit.report import Finding, Report
from worker.generation.audit.stuck import check_stuck
from worker.generation.channel import Channel
from worker.generation.region import Region


async def audit(
    database: AsyncPostgrestClient,
    redis: Redis,
    *,
    everything: bool = False,
    patience_seconds: float = 0.0,
    region: Region | None = None,
) -> Report:
    """Prove from the database that no credit is lost or doubled; raises AuditUnderWay, ServiceUnavailable.

    `redis` tells who works on the open sessions. With `region`, the sessions of other regions are judged by their age.
    `everything` proves old sessions and lines again, too. Another audit is waited for up to `patience_seconds`.
    """
    start = time.monotonic()
    ledger = Ledger(database)
    try:
        report = Report.read(await ledger.prove(everything=everything, patience_seconds=patience_seconds))
    except (KeyError, TypeError, ValueError) as error:
        raise ServiceUnavailable(f"database answered with an unusable report: {error!r}") from error
    report.redis_read, stuck = await _stuck(ledger, redis, region)
    if stuck:
        # Sessions move on while we read: a second look.
        await asyncio.sleep(ledgers.PAUSE_SECONDS)
        first = {finding.session_id for finding in stuck}
        report.redis_read, again = await _stuck(ledger, redis, region)
        report.wrong += [finding for finding in again if finding.session_id in first]
    report.seconds = time.monotonic() - start
    return report


async def _stuck(ledger: Ledger, redis: Redis | None, region: Region | None) -> tuple[bool, list[Finding]]:
    """The sessions that are stuck, and a flag that Redis was asked."""
    look = Report()
    own: set[str] | None = None
    if region and redis:
        try:
            own = {str(row["id"]) for row in await region.open(["queued", "pending", "processing"])}
        except ServiceUnavailable:
            redis = None
    for channel in Channel:
        async for page in ledger.open_sessions(channel):
            sessions = [(channel, row) for row in page]
            try:
                await check_stuck(sessions, redis, look, own)
            except (RedisError, OSError):
                redis = None
                await check_stuck(sessions, None, look)
    return redis is not None and await _answers(redis), look.wrong


async def _answers(redis: Redis) -> bool:
    try:
        await redis.ping()
    except (RedisError, OSError):
        return False
    return True
