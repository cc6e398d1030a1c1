"""The proof itself: read the ledgers, then the sessions, match them, and look a second time at whatever is wrong."""

import asyncio
import time

from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.generation.audit.ledger import Ledger
from worker.generation.audit.report import Finding, Report
from worker.generation.audit.stores import StoreBooks
from worker.generation.audit.stuck import OpenSession, check_stuck
from worker.generation.audit.users import UserBooks
from worker.generation.channel import Channel

_BOOKS: dict[Channel, type[UserBooks | StoreBooks]] = {Channel.B2C: UserBooks, Channel.B2B: StoreBooks}
#: Sessions move on while we read. With so few owners a second look is cheap; with more it is no coincidence.
_SECOND_LOOK_OWNERS = 100
_SECOND_LOOK_PAUSE_SECONDS = 1.0


async def audit(database: AsyncPostgrestClient, redis: Redis | None = None) -> Report:
    """Prove from the database that no credit is lost or doubled; `redis` tells who works on the open sessions.

    Raises:
        ServiceUnavailable: the database could not be read.
    """
    begun = time.monotonic()
    ledger = Ledger(database)
    report = await _look(ledger, redis, {})
    for channel in _BOOKS:
        await _compare_balances(ledger, channel, report)
    if 0 < len(report.owners()) <= _SECOND_LOOK_OWNERS:
        report.wrong = await _confirmed(ledger, redis, report.wrong)
    report.seconds = time.monotonic() - begun
    return report


async def _confirmed(ledger: Ledger, redis: Redis | None, wrong: list[Finding]) -> list[Finding]:
    """What is still wrong at a second look."""
    await asyncio.sleep(_SECOND_LOOK_PAUSE_SECONDS)
    owners = {channel: sorted({each.owner_id for each in wrong if each.channel == channel}) for channel in _BOOKS}
    again = await _look(ledger, redis, owners)
    # Other sessions of a busy owner may have been on the move this time.
    known = {(each.owner_id, each.session_id) for each in wrong}
    return [
        each
        for each in again.wrong
        if each.session_id is None or known & {(each.owner_id, each.session_id), (each.owner_id, None)}
    ]


async def _look(ledger: Ledger, redis: Redis | None, owners: dict[Channel, list[str]]) -> Report:
    """The books of these owners, or of all when there are none."""
    report = Report()
    open_sessions: list[OpenSession] = []
    for channel, kind in _BOOKS.items():
        if owners and not owners[channel]:
            continue
        books = kind(report)
        async for row in ledger.transactions(channel, owners.get(channel)):
            report.transactions += 1
            books.transaction(row)
        async for row in ledger.sessions(channel, owners.get(channel)):
            report.sessions += 1
            books.session(row)
            if row["status"] not in ("completed", "failed"):
                open_sessions.append((channel, row))
        books.close()
        report.ledger_sums[channel] = books.ledger_sums
    try:
        await check_stuck(open_sessions, redis, report)
    except (RedisError, OSError):
        await check_stuck(open_sessions, None, report)
    return report


async def _compare_balances(ledger: Ledger, channel: Channel, report: Report) -> None:
    sums, owner = report.ledger_sums[channel], channel.owner_column
    async for row in ledger.balances(channel):
        if row["balance"] != sums.get(row[owner], 0):
            report.note(channel, "balance_differs", 1)
