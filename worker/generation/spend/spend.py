"""Spend on OpenAI, for all instances in Redis: reserved before a paid call, counted after it, held below the budgets.

A call reserves the highest cost that calls of its kind had of late: of its model, size, quality, prices and number of
pictures. So calls in flight together cannot pass a budget by more than the costs of one kind rise meanwhile. Days and
months are UTC. docs/decisions/0030-budgets.md
"""

import asyncio
import random
import time
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.errors import BudgetExhausted
from worker.generation import keys
from worker.generation.message import GenerationMessage
from worker.generation.retrying import until_available
from worker.generation.spend.limits import ALL, MILLION, Limits, periods
from worker.generation.spend.scripts import RELEASE, RESERVE, SPEND
from worker.image_models import Price
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)

#: Tokens of a call to a model that has no known cost yet: more than pictures of the largest size at high quality take.
_FIRST_IMAGE_IN, _FIRST_IMAGE_OUT = 8_000, 6_240
#: After the generation's deadline: a call whose end is unknown by then may have been paid.
_SLACK_SECONDS = 60
#: Between two tries while other calls in flight hold the rest of a budget: each that costs less makes room.
_LOOK_SECONDS = 0.5
#: Between two looks for calls whose worker is gone: their session has no lease.
_LOST_SECONDS = 5.0
#: A count holds up a finished picture for no longer; after that its reservation counts.
_PATIENCE_SECONDS = 2.0
_PERIODS = ("day", "month", "day", "month")
#: Share of a budget at which it is nearly spent.
WARNING = 0.8
#: Answers of RESERVE; 1: full of other reservations.
_RESERVED, _SPENT = 0, 2


class Spend:
    """The spend of one Redis."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text
        self._next_look_for_lost = 0.0
        self._limits = Limits(settings.budgets)
        self._worker = uuid4().hex
        self._lifetime = int((settings.generation_timeout_seconds + _SLACK_SECONDS) * 1000)
        self._bulk_share = settings.bulk_share
        self._price = settings.price
        self._size = f"{settings.openai_image_size} {settings.openai_image_quality}"
        self._reserve = redis.register_script(RESERVE)
        self._spend = redis.register_script(SPEND)
        self._release = redis.register_script(RELEASE)

    async def reserve(self, message: GenerationMessage, model: str) -> None:
        """Reserve the cost of one call; raises BudgetExhausted.

        Wait while calls in flight hold the rest of a budget, and for an absent Redis.
        """
        if not self._reserves(message):
            return
        try:
            while not await self._has_reserved(message, model):  # no event: the calls are anywhere
                await asyncio.sleep(_LOOK_SECONDS * (1 + random.random()))  # noqa: S311  # so that callers spread
                if time.monotonic() > self._next_look_for_lost:
                    self._next_look_for_lost = time.monotonic() + _LOST_SECONDS
                    await until_available(self._end_lost)
        except asyncio.CancelledError:
            await self.release(message)  # Redis may have reserved although its answer did not come
            raise

    async def release(self, message: GenerationMessage) -> None:
        """Take the reservation back: OpenAI was not paid."""
        if self._reserves(message):
            await self._patiently(message, self._release, "", 0)

    async def count(self, message: GenerationMessage, model: str, cost: Decimal | None) -> None:
        """Count a paid call; None: the answer did not say what it cost. Log each budget that is nearly spent now."""
        reserved = self._reserves(message)
        amount = "" if cost is None else int(cost * MILLION)
        # Without a reservation, a repetition would count twice.
        found = await self._patiently(message, self._spend, model, amount, int(reserved), again=reserved)
        if found:
            added, *totals = map(int, found)
            self._tell(message.payer, added, totals)

    async def _has_reserved(self, message: GenerationMessage, model: str) -> bool:
        limits = self._limits.micros(message.payer, self._bulk_share if message.is_bulk else 1)
        more = (_first_cost(self._price(model)), self._lifetime, *("" if limit is None else limit for limit in limits))
        state, number = await until_available(self._run, self._reserve, message, model, *more)
        if state == _SPENT:
            scope = ALL if number < 3 else message.payer  # the first two are of all
            usd = Decimal(self._limits.micros(message.payer)[number - 1] or 0) / MILLION
            budget = f"the budget of {scope} for this {_PERIODS[number - 1]} ({usd:.2f} USD)"
            rest = f", of which bulk has {self._bulk_share:.0%}," if message.is_bulk else ""
            raise BudgetExhausted(f"{budget}{rest} has no room for another picture")
        return bool(state == _RESERVED)

    async def _end_lost(self) -> None:
        """Let reservations of workers that are gone count as spent at the next look."""
        sessions = [session.decode(errors="replace") for session in await self._redis.zrange(keys.SPEND_CALLS, 0, -1)]
        leases = await self._redis.mget([keys.lease(session) for session in sessions]) if sessions else []
        if lost := {session: 0 for session, lease in zip(sessions, leases, strict=True) if lease is None}:
            await self._redis.zadd(keys.SPEND_CALLS, lost, xx=True)

    def _reserves(self, message: GenerationMessage) -> bool:
        return any(limit is not None for limit in self._limits.micros(message.payer))

    def _tell(self, payer: str, added: int, totals: list[int]) -> None:
        for number, (limit, total) in enumerate(zip(self._limits.micros(payer), totals, strict=True)):
            if limit and total - added < WARNING * limit <= total:
                usd = {"spent_usd": total / MILLION, "budget_usd": limit / MILLION}
                scope = ALL if number < 2 else payer  # the first two are of all
                log.warning("budget_nearly_spent", scope=scope, period=_PERIODS[number], **usd)

    async def _patiently(
        self, message: GenerationMessage, script: Any, model: str, *more: Any, again: bool = True
    ) -> Any:
        run = partial(self._run, script, message, model, *more)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await (until_available(run) if again else run())
        except (RedisError, TimeoutError):
            log.warning("spend_not_counted", payer=message.payer)
            return None

    async def _run(self, script: Any, message: GenerationMessage, model: str, amount: Any, *more: Any) -> Any:
        names = [keys.SPEND_RESERVED, keys.SPEND_CALLS, *map(keys.spend, periods())]
        call = [str(message.session_id), self._worker, message.payer, amount, model, self._kind(model)]
        return await script(keys=names, args=[*call, len(message.image_urls), *more])

    def _kind(self, model: str) -> str:
        price = self._price(model)
        return f"{model} {self._size} {price.text_in} {price.text_out} {price.image_in} {price.image_out}"


def _first_cost(price: Price) -> int:
    return int(_FIRST_IMAGE_IN * price.image_in + _FIRST_IMAGE_OUT * price.image_out)
