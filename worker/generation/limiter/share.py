"""The share of the account's limit that a region uses by itself while the one limiter is away (LIMITER_LOCAL_SHARE).

The limiter leaves the share free for each region that it has not heard for a while. The region begins once a whole
window has passed since then, so that the calls of others fit beside its own; on return it tells the limiter of them.
Decision and proof: docs/decisions/0037-local-share.md
"""

import asyncio
import time
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable
from worker.generation import keys, odd
from worker.generation.limiter.scripts import FORGET
from worker.generation.limiter.share_scripts import NOTE, PLACE_ALONE, RELEASE_ALONE, REPORT
from worker.generation.region import identity
from worker.logs import get_logger
from worker.metrics import gauge

log = get_logger(__name__)

#: Parts of the window: from when on the limiter takes a region for silent, and how often a process reports.
SILENT, _REPORT = 1 / 4, 1 / 20

_ALONE = gauge("wearon_limiter_local", "1 while this region counts its calls by itself: the limiter is away.")


class LocalShare:
    """`report_forever` keeps the contact; while `alone` this region's calls are counted in its own Redis."""

    def __init__(
        self, own: Redis, limiter: Redis, per_minute: int, share: int, window_seconds: float, slack_seconds: float
    ) -> None:
        self.alone = False
        self.silent_seconds = window_seconds * SILENT
        self._report_seconds = window_seconds * _REPORT
        self._quiet_seconds = self.silent_seconds + window_seconds + slack_seconds
        self._window = int((window_seconds + slack_seconds) * 1e6)
        self._per_minute, self._share = per_minute, share
        self._own = own
        self._report, self._note = limiter.register_script(REPORT), own.register_script(NOTE)
        self._place, self._release = own.register_script(PLACE_ALONE), own.register_script(RELEASE_ALONE)
        #: The limiter's clock at its last answer that the region has noted, and the calls that were made alone.
        self._noted, self._calls = 0, list[Any]()
        # A new process knows of no contact: it waits as long as a process that has just lost the contact.
        self._contact_at = time.monotonic()
        self._was_reduced = False

    async def report_forever(self) -> None:
        """Tell the limiter that this region lives, and decide who counts its calls."""
        while True:
            try:
                await self.report()
            except Exception as error:
                odd.note("part", "limiter share", error)
            await asyncio.sleep(self._report_seconds)

    async def report(self) -> None:
        """Make one report; a limiter that does not answer for long makes the region count alone."""
        try:
            async with asyncio.timeout(self.silent_seconds):
                is_new = not self._noted
                await self._make_contact()
                if is_new:  # the first report has told nothing of calls that were made alone
                    await self._make_contact()
        except (ServiceUnavailable, RedisError, OSError, TimeoutError) as error:
            # Notes of before are old when the limiter hears of them.
            self._noted, self._calls = 0, []
            self._switch(await self._may_count_alone(), type(error).__name__)

    async def place(self, window: int, tolerance: int, *calls: str | int) -> Any:
        """Do what PLACE does, with the share; nothing if another process is in contact. Raises as Redis does."""
        return await self._ask(self._place, window, tolerance, *calls)

    async def release(self, window: int, tolerance: int, *calls: str | int) -> Any:
        """Take a call back that will not be made."""
        return await self._ask(self._release, window, tolerance, *calls)

    async def _make_contact(self) -> None:
        """Report, then note the answer in the region's Redis: the next report is the proof that no call is made alone.

        In this order the limiter never hears a region later than the region believes.
        """
        region = await identity(self._own)
        silent = int(self.silent_seconds * 1e6)
        about = [region, self._share, self._noted, *self._calls]
        now, share, others = await self._report(
            keys=[keys.LIMITER, keys.PAUSE, keys.LIMITER_SHARES],
            args=[self._per_minute, self._window, 0, 1, silent, *about],
        )
        self._calls = await self._note(keys=[keys.LIMITER_CONTACT, keys.LIMITER_ALONE], args=[share, self._window])
        self._noted, self._contact_at = int(now), time.monotonic()
        self._switch(False, "")
        if share < self._share and not self._was_reduced:
            log.warning("limiter_share_reduced", share=share, wanted=self._share, others=others)
        self._was_reduced = share < self._share

    async def _may_count_alone(self) -> bool:
        if time.monotonic() - self._contact_at < self._quiet_seconds:
            return False
        try:
            async with asyncio.timeout(self.silent_seconds):
                return bool(await self.place(self._window, 0))
        except (RedisError, OSError, TimeoutError):
            return False

    async def _ask(self, script: Any, window: int, tolerance: int, *calls: str | int) -> Any:
        quiet = int(self._quiet_seconds * 1e6)
        until = int(self.silent_seconds * FORGET * 1e6) - quiet
        return await script(
            keys=[keys.LIMITER_ALONE, keys.PAUSE, keys.LIMITER_CONTACT],
            args=[self._share, window, tolerance, quiet, until, *calls],
        )

    def _switch(self, alone: bool, error: str) -> None:
        if alone and not self.alone:
            log.error("limiter_share_begun", share=self._share, error=error)
        elif self.alone and not alone:
            log.warning("limiter_share_ended")
        self.alone = alone
        _ALONE.set(alone)


async def release_share(limiter: Redis, region: str) -> None:
    """Free the share of a region that is gone for good."""
    removed: Any = limiter.hdel(keys.LIMITER_SHARES, region)
    await removed


async def shares(limiter: Redis) -> dict[str, int]:
    """Shares that the limiter knows, by the region's identity."""
    kept: Any = limiter.hgetall(keys.LIMITER_SHARES)
    return {name.decode(): int(value.split(b":")[0]) for name, value in (await kept).items() if value.count(b":") == 2}
