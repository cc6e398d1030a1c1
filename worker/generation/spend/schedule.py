"""The regular look at the spend in Redis, which may have been emptied."""

import asyncio

from postgrest import AsyncPostgrestClient
from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable
from worker.generation import odd
from worker.generation.rounds import Rounds
from worker.generation.spend.limits import Limits, periods
from worker.generation.spend.view import SpendView

_LOOK_SECONDS = 5.0


class SpendSchedule:
    """Keeps the budgets right after Redis was emptied; does nothing without budgets."""

    def __init__(self, view: SpendView, database: AsyncPostgrestClient, limits: Limits) -> None:
        self._view = view
        self._database = database
        self._limits = limits
        self._rounds = Rounds("spend_not_compared")

    async def run_forever(self) -> None:
        """Raise the spend of this day and month to the database's sums: once an hour, and after Redis was emptied."""
        while True:
            if self._limits.budgets:
                await self.raise_once()
            await asyncio.sleep(_LOOK_SECONDS)

    async def raise_once(self) -> None:
        """Raise the spend if it is due; log the first failure of a row."""
        try:
            if await self._view.is_raised():
                return
            for period in periods():
                await self._view.raise_to(period, self._database)
            await self._view.raised()
            self._rounds.succeeded()
        except (ServiceUnavailable, RedisError, OSError) as error:
            self._rounds.failed(error)
        except Exception as error:
            odd.note("part", "spend", error)
