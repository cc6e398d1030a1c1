"""The departure of an instance: its messages are requeued, and the other instances need not wait."""

import asyncio
from contextlib import suppress

from redis.exceptions import RedisError

from worker.generation.claims import Claims
from worker.generation.envelope import identify
from worker.generation.ownership import Ownership

#: A Redis that does not answer must not hold up the end.
_PATIENCE_SECONDS = 5.0


async def leave(claims: Claims, ownership: Ownership) -> int | None:
    """Requeue everything that the instance still claims, in order; -> how many messages, None: Redis is away."""
    with suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await _release_leases(claims, ownership)
            requeued = await claims.requeue_all()
            if not any(other.alive and other.lanes for other in await claims.others()):
                await claims.lanes.merge()  # the next version to start here may know no lanes
            await claims.leave()
            return requeued
    return None


async def abandon(claims: Claims, ownership: Ownership) -> None:
    """Declare the instance dead, so that its messages and sessions need not wait for time-outs."""
    with suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await _release_leases(claims, ownership)
            await claims.abandon()


async def _release_leases(claims: Claims, ownership: Ownership) -> None:
    claimed = [session.id for payload in await claims.held() if (session := identify(payload))]
    await ownership.release_all(claims.instance, claimed)
