"""The state of Redis, as one scrape shows it."""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prometheus_client.core import Metric
from redis.asyncio import Redis

from tests.sandbox.processes import free_port
from worker.generation import keys
from worker.generation.limiter import Limiter
from worker.generation.queue.claims import Claims
from worker.generation.queue_metrics import Shared
from worker.generation.spend.limits import Limits
from worker.generation.spend.view import SpendView


@pytest.fixture
def shared(redis: Redis) -> Shared:
    return Shared(redis, Claims(redis, "one", lease_seconds=30), Limiter(redis, 300), SpendView(redis, Limits({})))


def value(families: list[Metric], name: str) -> float:
    """The only sample of a family."""
    (found,) = (sample.value for family in families for sample in family.samples if sample.name == name)
    return float(found)


async def test_messages_show_in_number_and_age_wherever_they_are(redis: Redis, shared: Shared) -> None:
    for minutes in (3, 2, 1):
        made = datetime.now(UTC) - timedelta(minutes=minutes)
        await redis.lpush(keys.QUEUE, json.dumps({"created_at": made.isoformat()}))
    await redis.lpush(keys.claimed("one"), "x", "y")
    await redis.lpush(keys.DEAD, "x")
    await redis.hset(keys.SETTLEMENTS, str(uuid4()), "x")
    families = await shared.read()
    assert value(families, "wearon_queue_messages") == 3
    assert value(families, "wearon_queue_oldest_message_age_seconds") == pytest.approx(180, abs=5)
    assert value(families, "wearon_claimed_messages") == 2
    assert value(families, "wearon_dead_letters") == 1
    assert value(families, "wearon_settlements_waiting") == 1
    assert value(families, "wearon_instances") == 1


async def test_a_limiter_elsewhere_that_is_away_hides_no_other_value(redis: Redis) -> None:
    async with Redis.from_url(f"redis://127.0.0.1:{free_port()}/0") as away:
        shared = Shared(redis, Claims(redis, "one", 30), Limiter(away, 300), SpendView(redis, Limits({})))
        families = await shared.read()
    assert (value(families, "wearon_limiter_up"), value(families, "wearon_queue_messages")) == (0, 0)
    assert "wearon_openai_limit_calls" not in {family.name for family in families}


async def test_a_scrape_does_not_fetch_the_messages(redis: Redis, shared: Shared) -> None:
    await redis.lpush(keys.QUEUE, *(str(number) + 1_000_000 * "x" for number in range(3)))
    before = (await redis.info("stats"))["total_net_output_bytes"]
    assert value(await shared.read(), "wearon_queue_messages") == 3
    assert (await redis.info("stats"))["total_net_output_bytes"] - before < 100_000


async def test_what_other_instances_have_counts_from_the_sweep_that_saw_them(redis: Redis) -> None:
    claims, other = Claims(redis, "one", lease_seconds=30), Claims(redis, "two", lease_seconds=30)
    await claims.heartbeat()
    await other.heartbeat()
    await redis.lpush(keys.claimed("two"), "x")
    shared = Shared(redis, claims, Limiter(redis, 300), SpendView(redis, Limits({})))
    assert value(await shared.read(), "wearon_claimed_messages") == 0
    await claims.others()
    families = await shared.read()
    assert value(families, "wearon_claimed_messages") == 1
    assert value(families, "wearon_instances") == 2


async def test_a_scrape_of_an_instance_that_is_alone_costs_three_commands(redis: Redis, shared: Shared) -> None:
    await shared.read()
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    total = (await redis.info("stats"))["total_commands_processed"]
    await shared.read()
    after = await redis.info("commandstats")
    assert after["cmdstat_evalsha"]["calls"] - before == 3
    assert (await redis.info("stats"))["total_commands_processed"] - total < 35
