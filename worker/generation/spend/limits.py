"""Budgets by payer, and the days and months (UTC) that they hold for."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from worker.generation.queue.lanes import STORE, USERS
from worker.settings.values import Budget

ALL = "all"
MILLION = 1_000_000
_DAY_FORM, _MONTH_FORM = "%Y-%m-%d", "%Y-%m"


@dataclass(frozen=True)
class Limits:
    """Budgets by scope: `all`, `b2c`, a store's id, and `store` for every other store."""

    budgets: dict[str, Budget]

    def of(self, payer: str) -> Budget:
        """The budget of all or of one payer, without limits if none is set."""
        other = Budget() if payer in (ALL, USERS) else self.budgets.get(STORE, Budget())
        return self.budgets.get(payer, other)

    def micros(self, payer: str, share: float = 1) -> list[int | None]:
        """Day and month of all, then of the payer, in millionths of a USD; this share of each."""
        budgets = (self.of(ALL), self.of(payer))
        limits = [usd for budget in budgets for usd in (budget.day, budget.month)]
        return [None if usd is None else int(usd * MILLION * Decimal(str(share))) for usd in limits]


def periods(now: float | None = None) -> tuple[str, str]:
    """The day and the month of a moment, by default of now."""
    moment = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    return moment.strftime(_DAY_FORM), moment.strftime(_MONTH_FORM)


def bounds(period: str) -> tuple[datetime, datetime]:
    """First moment of a day or a month, and of the next one; raises ValueError."""
    if period.count("-") > 1:
        begin = datetime.strptime(period, _DAY_FORM).replace(tzinfo=UTC)
        return begin, begin + timedelta(days=1)
    begin = datetime.strptime(period, _MONTH_FORM).replace(tzinfo=UTC)
    return begin, (begin + timedelta(days=32)).replace(day=1)
