"""The departure of an instance: its messages are requeued, and the other instances need not wait."""

import asyncio
from contextlib import suppress

from redis.exceptions import RedisError

from worker.generation.queue.claims import Claims
from worker.generation.queue.envelope import identify
from worker.generation.sessions.ownership import Ownership

#: A Redis that does not answer must not hold up the end.
_PATIENCE_SECONDS = 5.0


async def leave(claims: Claims, ownership: Ownership) -> int | None:
    """Requeue all claimed messages, in order. Return their number, None while Redis is unavailable."""
    requeued = None
    with suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await _release_leases(claims, ownership)
            count = await claims.requeue_all()
            await claims.leave()
        requeued = count
        # After it has left: of instances that leave at once, the last one sees no other.
        while await _merge_some(claims):
            pass
    return requeued


async def _merge_some(claims: Claims) -> int:
    """Move waiting messages out of lanes, unless others serve these: the next version to start may know no lanes.

    A step of its own, with its own patience: 100 000 messages take half a minute.
    """
    async with asyncio.timeout(_PATIENCE_SECONDS):
        if any(other.alive and other.lanes for other in await claims.others()):
            return 0
        return await claims.lanes.merge()


async def abandon(claims: Claims, ownership: Ownership) -> None:
    """Declare the instance dead, so that its messages and sessions need not wait for time-outs."""
    with suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await _release_leases(claims, ownership)
            await claims.abandon()


async def _release_leases(claims: Claims, ownership: Ownership) -> None:
    claimed = [session.id for payload in await claims.held() if (session := identify(payload))]
    await ownership.release_all(claims.instance, claimed)
