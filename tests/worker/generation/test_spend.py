"""Budgets in Redis: reserved before a call, counted after it, kept when workers vanish."""

import asyncio
import time
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.sandbox import Sandbox
from worker import clients
from worker.errors import BudgetExhausted, SettingsError
from worker.generation import keys
from worker.generation.channel import Channel
from worker.generation.message import GenerationMessage
from worker.generation.spend import spend
from worker.generation.spend.limits import ALL, Limits, bounds, periods
from worker.generation.spend.schedule import SpendSchedule
from worker.generation.spend.spend import Spend
from worker.generation.spend.view import SpendView
from worker.image_models import Price
from worker.settings import Settings, load
from worker.settings.values import Budget

STORE = UUID("11111111-2222-4333-8444-555555555555")
MODEL = "gpt-image-2.6-sunburst"
USD = Decimal("0.05")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine loses no count."""
    monkeypatch.setattr(spend, "_PATIENCE_SECONDS", 60)


def message(store: UUID | None = None, pictures: int = 2) -> GenerationMessage:
    fields: dict[str, Any] = {"session_id": uuid4(), "channel": Channel.B2B if store else Channel.B2C}
    fields["image_urls"] = ["https://photos.example/1.jpg"] * pictures
    return GenerationMessage.model_construct(store_id=store, user_id=uuid4(), **fields)


def of(redis: Redis, settings: Settings, **budgets: Budget) -> Spend:
    return Spend(redis, settings.model_copy(update={"budgets": budgets}))


async def spent(redis: Redis) -> dict[str, Decimal]:
    return (await SpendView(redis, Limits({})).spent(periods()[1])).usd


async def make(spend: Spend, one: GenerationMessage, cost: Decimal | None = USD) -> None:
    await spend.reserve(one, MODEL)
    await spend.count(one, MODEL, cost)


async def test_a_payers_budget_ends_only_that_payers_calls(redis: Redis, settings: Settings) -> None:
    budgets = of(redis, settings, store=Budget(day=Decimal("0.52")))
    for _ in range(10):
        await make(budgets, message(STORE))
    with pytest.raises(BudgetExhausted, match=rf"the budget of {STORE} for this day \(0\.52 USD\) has no room"):
        await budgets.reserve(message(STORE), MODEL)
    await make(budgets, message())
    await make(budgets, message(uuid4()))
    found = await spent(redis)
    assert (found[str(STORE)], found["b2c"], found[ALL]) == (10 * USD, USD, 12 * USD)
    assert found[f"model {MODEL}"] == 12 * USD


async def test_the_budget_of_all_ends_each_payers_calls_and_a_higher_one_lets_them_go_on(
    redis: Redis, settings: Settings
) -> None:
    low = of(redis, settings, all=Budget(month=Decimal("0.3")))
    for _ in range(6):
        await make(low, message(uuid4()))
    for one in (message(), message(STORE)):
        with pytest.raises(BudgetExhausted, match=r"the budget of all for this month \(0\.30 USD\) has no room"):
            await low.reserve(one, MODEL)
    await of(redis, settings, all=Budget(month=Decimal("0.4"))).reserve(message(), MODEL)


async def test_nothing_may_be_spent_with_a_budget_of_zero(redis: Redis, settings: Settings) -> None:
    with pytest.raises(BudgetExhausted):
        await of(redis, settings, b2c=Budget(day=Decimal(0))).reserve(message(), MODEL)


async def test_150_calls_in_flight_never_pass_the_budget(redis: Redis, settings: Settings) -> None:
    limit, chance = Decimal(10), Random(1)
    budgets = of(redis, settings, all=Budget(day=limit))
    costs = [Decimal(round(chance.uniform(0.04, 0.08), 6)) for _ in range(300)]
    assert await flight(budgets, costs)
    total = (await spent(redis))[ALL]
    assert limit * Decimal("0.98") < total <= limit * Decimal("1.02"), total
    assert await SpendView(redis, Limits({})).reserved() == 0


@pytest.mark.parametrize("change", ["the prices are ten times as high", "each call has eight pictures"])
async def test_calls_in_flight_do_not_pass_the_budget_once_they_cost_more(
    redis: Redis, settings: Settings, change: str
) -> None:
    limit = {"all": Budget(day=Decimal(10))}
    for _ in range(40):
        await make(of(redis, settings, **limit), message())
    pictures = 8 if "pictures" in change else 2
    if pictures == 2:
        price = {name: 10 * usd for name, usd in settings.price(MODEL).model_dump().items()}
        settings = settings.model_copy(update={"openai_prices": {MODEL: Price.model_validate(price)}})
    dear = Decimal("0.2") if pictures == 8 else 10 * USD
    assert await flight(of(redis, settings, **limit), [dear] * 60, pictures)
    assert 9 < (await spent(redis))[ALL] <= 10


async def flight(budgets: Spend, costs: list[Decimal], pictures: int = 2) -> int:
    """Make calls with these costs, 150 at once; -> how many had no budget."""
    slots, chance, refused = asyncio.Semaphore(150), Random(1), 0

    async def call(cost: Decimal) -> None:
        nonlocal refused
        async with slots:
            one = message(pictures=pictures)
            try:
                await budgets.reserve(one, MODEL)
            except BudgetExhausted:
                refused += 1
                return
            await budgets._redis.set(keys.lease(one.session_id), "its worker lives")
            await asyncio.sleep(0.05 + chance.random() / 10)
            await budgets.count(one, MODEL, cost)

    await asyncio.gather(*map(call, costs))
    return refused


async def test_bulk_leaves_a_share_of_the_budgets_to_all_others(redis: Redis, settings: Settings) -> None:
    budgets = of(redis, settings, all=Budget(day=Decimal("0.5")), store=Budget(month=Decimal(9)))
    bulk = [message(STORE).model_copy(update={"priority": "bulk"}) for _ in range(9)]
    for one in bulk[:8]:
        await make(budgets, one)
    told = r"the budget of all for this day \(0\.50 USD\), of which bulk has 80%, has no room"
    with pytest.raises(BudgetExhausted, match=told):
        await budgets.reserve(bulk[8], MODEL)
    await make(budgets, message(STORE))
    await make(budgets, message())


async def test_a_call_waits_while_others_in_flight_hold_the_rest(redis: Redis, settings: Settings) -> None:
    budgets = of(redis, settings, all=Budget(day=Decimal("0.11")))
    first, second = message(), message()
    await redis.set(keys.lease(first.session_id), "its worker lives")
    await make(budgets, message())
    await budgets.reserve(first, MODEL)
    waiting = asyncio.create_task(budgets.reserve(second, MODEL))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await budgets.release(first)
    await asyncio.wait_for(waiting, 5)


async def test_a_call_does_not_wait_for_a_worker_that_is_gone(redis: Redis, settings: Settings) -> None:
    budgets = of(redis, settings, all=Budget(day=Decimal("0.11")))
    await make(budgets, message())
    await budgets.reserve(message(), MODEL)
    with pytest.raises(BudgetExhausted):
        await asyncio.wait_for(budgets.reserve(message(), MODEL), 10)
    assert (await spent(redis))[ALL] == 2 * USD


async def test_a_repeated_count_counts_once(redis: Redis, settings: Settings) -> None:
    budgets, one = of(redis, settings, all=Budget(day=Decimal(10))), message()
    await make(budgets, one)
    await budgets.count(one, MODEL, USD)
    assert (await spent(redis))[ALL] == USD


async def test_a_reservation_whose_worker_vanished_counts_as_spent(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spend, "_SLACK_SECONDS", -settings.generation_timeout_seconds)
    budgets = of(redis, settings, all=Budget(day=Decimal(10)))
    await make(budgets, message(STORE))
    lost = message(STORE)
    await budgets.reserve(lost, MODEL)
    await asyncio.sleep(0.01)
    await make(budgets, message())
    found = await spent(redis)
    assert (found[str(STORE)], found[ALL]) == (2 * USD, 3 * USD)
    await budgets.count(lost, MODEL, USD)  # it lived, after all
    assert (await spent(redis))[ALL] == 3 * USD


async def test_a_worker_that_lost_the_session_leaves_the_reservation_of_its_successor(
    redis: Redis, settings: Settings
) -> None:
    before, after = (of(redis, settings, all=Budget(day=Decimal(10))) for _ in range(2))
    one = message(STORE)
    await before.reserve(one, MODEL)
    await after.reserve(one, MODEL)
    await before.release(one)
    await after.count(one, MODEL, USD)
    assert (await spent(redis))[ALL] == USD
    assert await SpendView(redis, Limits({})).reserved() == 0


async def test_a_cancelled_reservation_holds_nothing(redis: Redis, settings: Settings) -> None:
    budgets = of(redis, settings, all=Budget(day=Decimal(10)))
    await make(budgets, message())
    ends: list[Any] = []
    for steps in range(30):
        reserving = asyncio.create_task(budgets.reserve(message(), MODEL))
        for _ in range(steps):  # before the command, on its way, and after it
            await asyncio.sleep(0.0001)
        reserving.cancel()
        ends += await asyncio.gather(reserving, return_exceptions=True)
    assert await redis.zcard(keys.SPEND_CALLS) == ends.count(None) < len(ends)


async def test_calls_that_cost_nothing_are_reserved_and_counted(redis: Redis, settings: Settings) -> None:
    free = Price.model_validate(dict.fromkeys(Price.model_fields, 0))
    budgets = of(redis, settings.model_copy(update={"openai_prices": {MODEL: free}}), all=Budget(day=Decimal(10)))
    with capture_logs() as logs:
        await make(budgets, message(), Decimal(0))
    assert not logs
    assert (await spent(redis))[ALL] == 0


async def test_a_call_without_usage_counts_as_the_dearest_of_late(redis: Redis, settings: Settings) -> None:
    for budgets in (of(redis, settings), of(redis, settings, all=Budget(day=Decimal(10)))):
        await make(budgets, message())
        await make(budgets, message(), None)
    assert (await spent(redis))[ALL] == 4 * USD


async def test_without_budgets_the_spend_is_counted_and_nothing_reserved(redis: Redis, settings: Settings) -> None:
    budgets, one = of(redis, settings), message()
    await budgets.reserve(one, MODEL)
    assert not await redis.exists(keys.SPEND_CALLS)
    await budgets.count(one, MODEL, USD)
    await budgets.release(one)
    assert (await spent(redis))[ALL] == USD


async def test_a_budget_that_is_nearly_spent_is_logged_once(redis: Redis, settings: Settings) -> None:
    budgets = of(redis, settings, all=Budget(day=Decimal("0.5")))
    with capture_logs() as logs:
        for _ in range(10):
            await make(budgets, message())
    assert [(line["event"], line["scope"], line["period"]) for line in logs] == [("budget_nearly_spent", "all", "day")]


async def test_a_full_redis_counts_and_reserves(redis: Redis, settings: Settings, full: Any) -> None:
    budgets = of(redis, settings, all=Budget(day=Decimal(10)))
    await make(budgets, message())
    full()
    await asyncio.wait_for(make(budgets, message()), 5)
    assert (await spent(redis))[ALL] == 2 * USD


@pytest.mark.parametrize("odd", ["abc", "1.5", "inf", "nan", "-1e9", "", "9" * 400])
async def test_an_odd_value_in_redis_neither_ends_nor_hides_the_count(
    redis: Redis, settings: Settings, odd: str
) -> None:
    view, budgets = SpendView(redis, Limits({})), of(redis, settings, all=Budget(day=Decimal(10)))
    names = (ALL, "b2c", "raised", f"cost {budgets._kind(MODEL)}")
    await redis.hset(keys.SPEND_RESERVED, mapping=dict.fromkeys(names, odd))
    for name in (ALL, "b2c", f"model {MODEL}"):
        await redis.hset(keys.spend(periods()[1]), name, odd)
    await view.metrics()
    assert not await view.is_raised()
    await make(budgets, message())
    assert {name: round(usd, 3) for name, usd in (await spent(redis)).items()} == dict.fromkeys(
        (ALL, "b2c", f"model {MODEL}"), USD
    )


async def test_an_odd_name_of_a_call_ends_no_look_for_lost_calls(redis: Redis, settings: Settings) -> None:
    await redis.zadd(keys.SPEND_CALLS, {b"\xff": 1})
    await of(redis, settings)._end_lost()


async def test_emptied_redis_learns_the_spend_from_the_database(
    redis: Redis, settings: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.database.execute(
        "insert into wearon.session_events (session_id, channel, kind, store_id, cost_usd)"
        " values ($1, 'b2b', 'ended', $2, 0.25), ($3, 'b2c', 'ended', null, 0.5)",
        *(str(uuid4()), str(STORE), str(uuid4())),
    )
    limits = Limits({"store": Budget(month=Decimal(1))})
    async with clients.http_client(clients.SUPABASE_TIMEOUT, connections=1) as http:
        database = clients.database_client(settings, http)
        view = SpendView(redis, limits)
        await of(redis, settings).count(message(), MODEL, Decimal("0.7"))  # the database has less: it lost a call
        schedule = SpendSchedule(view, database, limits)
        await schedule.raise_once()
        await redis.delete(keys.spend(periods()[1]))
        await schedule.raise_once()  # not due again
        assert not await spent(redis)
        await redis.delete(keys.SPEND_RESERVED)  # as when all is lost
        await of(redis, settings).count(message(), MODEL, Decimal("0.7"))
        await schedule.raise_once()
        assert await view.is_raised()
        with monkeypatch.context() as later:  # calls that were in flight are in the database alone
            now = time.time()
            later.setattr(time, "time", lambda: now + 400)
            assert not await view.is_raised()
            await view.raised()
        assert await view.is_raised()
    found = await spent(redis)
    assert (found[str(STORE)], found["b2c"]) == (Decimal("0.25"), Decimal("0.7"))
    shares = {tuple(s.labels.values()): s.value for one in await view.metrics() for s in one.samples if s.labels}
    assert shares["store", "month"] == 0.25
    assert shares["all", "day"] == 0


def test_periods_are_utc_and_end_where_the_next_begins() -> None:
    assert periods(1_796_083_199) == ("2026-11-30", "2026-11")
    assert periods(1_796_083_200) == ("2026-12-01", "2026-12")
    assert [str(each)[:10] for each in bounds("2026-12")] == ["2026-12-01", "2027-01-01"]
    assert [str(each)[:10] for each in bounds("2026-12-31")] == ["2026-12-31", "2027-01-01"]


@pytest.mark.parametrize(
    ("budgets", "problem"),
    [
        ('{"all": {"day": -1}}', "greater than or equal to 0"),
        ('{"all": {"day": "NaN"}}', "finite"),
        ('{"all": {"day": 1e9}}', "less than or equal to 1000000"),
        ('{"all": {"week": 1}}', "Extra inputs"),
        ('{"all": 5}', r'all: must be limits by day and month, such as {"day": 50}'),
        ('{"all": {"day": 50}, "all": {"month": 9}}', "'all' is named twice"),
        ('{"shop": {"day": 5}}', "neither all, b2c nor store"),
        ("all", r'must be a JSON object, such as {"all": {"day": 50}}'),
        ("[" * 10_000, "must be a JSON object"),
    ],
)
def test_impossible_budgets_are_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, budgets: str, problem: str
) -> None:
    monkeypatch.setenv("BUDGETS", budgets)
    with pytest.raises(SettingsError, match=f"BUDGETS is invalid: .*{problem}"):
        load()
