"""The spend as Redis knows it, for people and metrics, and its rise to the database's sums."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from postgrest import AsyncPostgrestClient
from prometheus_client.core import GaugeMetricFamily, Metric
from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.queue.lanes import STORE, USERS
from worker.generation.room import insist
from worker.generation.spend.limits import ALL, MILLION, Limits, bounds, periods
from worker.generation.spend.scripts import RAISE
from worker.generation.supabase.database import call

MODEL = "model "
_RAISED = "raised"
_RAISE_SECONDS = 3600.0
#: From the first raise to the second: calls that were in flight, whose reservations were lost, have ended by then.
_AGAIN_SECONDS = 360
_DIGITS = 15


@dataclass(frozen=True)
class Spent:
    """Spend of one day (2026-11-28) or month (2026-11), in USD, by payer and by `model <name>`."""

    period: str
    usd: dict[str, Decimal]

    def payers(self) -> Iterable[tuple[str, Decimal]]:
        """Users and stores, the largest first."""
        return ((name, usd) for name, usd in self._sorted() if name != ALL and not name.startswith(MODEL))

    def models(self) -> Iterable[tuple[str, Decimal]]:
        """Models, the largest first."""
        return ((name.removeprefix(MODEL), usd) for name, usd in self._sorted() if name.startswith(MODEL))

    def _sorted(self) -> list[tuple[str, Decimal]]:
        return sorted(self.usd.items(), key=lambda item: -item[1])


class SpendView:
    """The spend of one Redis. All methods raise what Redis raises."""

    def __init__(self, redis: Redis, limits: Limits) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text
        self._limits = limits
        self._raise = redis.register_script(RAISE)

    async def spent(self, period: str) -> Spent:
        """Spend of a day or a month."""
        found = await self._redis.hgetall(keys.spend(period))
        return Spent(period, {name.decode(errors="replace"): _usd(amount) for name, amount in found.items()})

    async def reserved(self) -> Decimal:
        """Reserved by calls that are in flight."""
        return _usd(await self._redis.hget(keys.SPEND_RESERVED, ALL) or b"0")

    async def raise_to(self, period: str, database: AsyncPostgrestClient) -> None:
        """Raise what Redis has lost to the database's sums; raises ServiceUnavailable."""
        begin, end = bounds(period)
        parameters = {"p_from": begin.isoformat(), "p_until": end.isoformat()}
        sums = {
            str(name): Decimal(str(usd)) for name, usd in (await call(database, "wearon_spend", parameters)).items()
        }
        amounts = [(name, int(usd * MILLION)) for name, usd in {**sums, ALL: sum(sums.values(), Decimal(0))}.items()]
        await self._raise(keys=[keys.spend(period)], args=[word for pair in amounts for word in pair])

    async def is_raised(self) -> bool:
        """Return True for some time after `raised`, unless Redis was emptied meanwhile."""
        at = await self._redis.hget(keys.SPEND_RESERVED, _RAISED)
        return abs(time.time() - _number(at or b"0")) < _RAISE_SECONDS

    async def raised(self) -> None:
        """Note beside the reservations that the spend was raised now, or for the first time in this Redis."""
        first = not await self._redis.hexists(keys.SPEND_RESERVED, _RAISED)
        moment = time.time() - (_RAISE_SECONDS - _AGAIN_SECONDS if first else 0)
        await insist(self._redis, "HSET", keys.SPEND_RESERVED, _RAISED, int(moment))

    async def metrics(self) -> list[Metric]:
        """The spend, and the largest share of a budget by its scope."""
        spend = GaugeMetricFamily("wearon_spend_usd", "Spent on OpenAI in this UTC day and month.", labels=["period"])
        used = GaugeMetricFamily(
            "wearon_budget_used_ratio", "Spent share of the budget; of stores the largest.", labels=["scope", "period"]
        )
        for kind, name in zip(("day", "month"), periods(), strict=True):
            spent = await self.spent(name)
            spend.add_metric([kind], float(spent.usd.get(ALL, 0)))
            for scope, share in self._shares(kind, spent).items():
                used.add_metric([scope, kind], share)
        reserved = float(await self.reserved())
        return [spend, used, GaugeMetricFamily("wearon_spend_reserved_usd", "Reserved by calls in flight.", reserved)]

    def _shares(self, kind: str, spent: Spent) -> dict[str, float]:
        shares = {ALL: 0.0, USERS: 0.0, STORE: 0.0}
        for payer, usd in [(ALL, spent.usd.get(ALL, Decimal(0))), *spent.payers()]:
            limit: Decimal | None = getattr(self._limits.of(payer), kind)
            scope = payer if payer in shares else STORE
            if limit is not None:
                shares[scope] = max(shares[scope], float(usd / limit) if limit else 1.0)
        return shares


def _usd(amount: bytes) -> Decimal:
    return Decimal(_number(amount)) / MILLION


def _number(kept: bytes) -> int:
    """Read a number. An odd value counts as 0, as in the scripts."""
    return int(kept) if kept.isdigit() and len(kept) <= _DIGITS else 0
