"""The claimed list: nothing is lost between the queue and the end of a generation, and the order is kept."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from worker.clients.redis_connections import TakesNoWrites
from worker.generation import keys
from worker.generation.queue.claims import Claims, Instance
from worker.generation.queue.lanes import Lanes, Rules


@pytest.fixture
def claims(redis: Redis) -> Claims:
    return Claims(redis, "one", lease_seconds=1)


async def queue(redis: Redis, *payloads: bytes) -> None:
    for payload in payloads:
        await redis.lpush(keys.QUEUE, payload)  # bytes are fine


async def queued(redis: Redis) -> list[bytes]:
    """Oldest first, lanes included."""
    await Lanes(redis, Rules()).merge()
    return list(reversed(await redis.lrange(keys.QUEUE, 0, -1)))  # type: ignore[arg-type]


async def test_the_oldest_message_is_taken_and_stays_claimed(redis: Redis, claims: Claims) -> None:
    await queue(redis, b"old", b"new")
    assert await claims.take(1) == b"old"
    assert await claims.held() == [b"old"]
    assert await queued(redis) == [b"new"]


async def test_an_empty_queue_gives_nothing(claims: Claims) -> None:
    assert await claims.take(1) is None


@pytest.mark.parametrize("turn", range(1, 30))
@pytest.mark.parametrize("write", ["succeeds", "fails"])
async def test_a_cancelled_task_gives_no_further_command(redis: Redis, claims: Claims, turn: int, write: str) -> None:
    """Whichever turn of the loop the cancellation comes in: with Python 3.11 redis-py loses it in half of them."""
    cancelled = asyncio.Event()
    commands_after = 0

    async def work() -> None:
        nonlocal commands_after
        while commands_after < 5:
            with suppress(RedisError):
                await claims.count()
            commands_after += cancelled.is_set()

    await claims.count()
    task = asyncio.create_task(work())
    if write == "fails":
        connection: Any = redis.connection_pool._available_connections[0]
        connection._writer.transport.abort()
    for _ in range(turn):
        await asyncio.sleep(0)
    cancelled.set()
    task.cancel()
    await asyncio.wait({task}, timeout=10)

    assert (task.cancelled(), commands_after) == (True, 0)
    assert await claims.count() == 0  # the client is as good as before


async def test_bytes_that_are_no_text_survive(redis: Redis, claims: Claims) -> None:
    await queue(redis, b"\xff\x00\xfe")
    assert await claims.take(1) == b"\xff\x00\xfe"
    await claims.finish(b"\xff\x00\xfe")
    assert await claims.count() == 0


async def test_what_is_given_back_is_taken_next_and_in_order(redis: Redis, claims: Claims) -> None:
    await queue(redis, b"1", b"2", b"3", b"4")
    for _ in range(3):
        await claims.take(1)
    assert await claims.requeue_all() == 3
    assert await queued(redis) == [b"1", b"2", b"3", b"4"]


async def test_a_message_that_somebody_else_put_back_is_not_put_back_twice(redis: Redis, claims: Claims) -> None:
    await queue(redis, b"1")
    await claims.take(1)
    assert await Claims(redis, "one", 1).requeue(b"1")
    assert not await claims.requeue(b"1")
    assert await queued(redis) == [b"1"]


async def test_a_message_whose_session_waits_again_is_never_lost(redis: Redis, claims: Claims) -> None:
    """Another process may have requeued the message and seen a duplicate dropped meanwhile."""
    await claims.requeue_always(b"1")
    assert await queued(redis) == [b"1"]


@pytest.mark.parametrize(("behind", "order"), [(0, b"0123"), (2, b"1203"), (10, b"1230")])
async def test_a_failed_probe_goes_back_behind_others_whose_order_is_kept(
    redis: Redis, claims: Claims, behind: int, order: bytes
) -> None:
    await queue(redis, b"0", b"1", b"2", b"3")
    taken = await claims.take(1)
    assert taken is not None
    await claims.requeue_always(taken, behind=behind)
    assert b"".join(await queued(redis)) == order


async def test_an_instance_lives_as_long_as_it_says_so(claims: Claims) -> None:
    assert not await claims.heartbeat()
    assert await claims.heartbeat()
    assert [(found.name, found.alive) for found in await claims.instances()] == [("one", True)]
    await asyncio.sleep(1.2)
    assert [(found.name, found.alive) for found in await claims.instances()] == [("one", False)]
    assert not await claims.heartbeat()


async def test_leaving_removes_every_trace(redis: Redis, claims: Claims) -> None:
    await claims.heartbeat()
    await redis.lpush(keys.celery_queue("one"), "left over")
    await claims.leave()
    assert await redis.keys("*") == []


async def test_an_instance_that_claims_a_message_while_it_is_cleared_away_stays_known(
    redis: Redis, claims: Claims
) -> None:
    """It had stood still, was declared dead, and went on."""
    await claims.heartbeat()
    await queue(redis, b"1")
    await claims.take(1)
    await claims.leave()
    assert [found.name for found in await claims.instances()] == ["one"]
    assert await claims.held() == [b"1"]


async def test_a_single_message_anywhere_is_seen(redis: Redis, claims: Claims) -> None:
    other = claims.of("two")
    for instance in (claims, other):
        await instance.heartbeat()
    assert await claims.are_all_empty()
    await queue(redis, b"1")
    assert not await claims.are_all_empty()
    await other.take(1)
    assert not await claims.are_all_empty()
    await other.finish(b"1")
    assert await claims.are_all_empty()


async def test_an_instance_that_joins_during_the_look_is_not_overlooked(
    redis: Redis, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_yet() -> set[bytes]:
        return set()

    other = claims.of("two")
    await other.heartbeat()
    await queue(redis, b"1")
    await other.take(1)
    monkeypatch.setattr(claims, "_members", none_yet)
    assert not await claims.are_all_empty()


async def test_a_message_that_comes_during_the_look_is_not_overlooked(
    redis: Redis, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def meanwhile() -> set[bytes]:
        await queue(redis, b"1")
        return set()

    monkeypatch.setattr(claims, "_members", meanwhile)
    assert not await claims.are_all_empty()


@pytest.mark.parametrize("name", [b"\xff\xfe", "g\u00e4st".encode()])
async def test_an_instance_of_a_strange_name_is_forgotten_and_hides_nothing(
    redis: Redis, claims: Claims, name: bytes
) -> None:
    await claims.heartbeat()
    for look in (claims.are_all_empty, claims.instances, claims.others):
        await redis.sadd(keys.INSTANCES, name)
        found = await look()
        assert found in (True, [], [Instance("one", alive=True, lanes=True)])
        assert await redis.smembers(keys.INSTANCES) == {b"one"}


async def test_a_redis_that_takes_no_write_is_told_from_one_that_is_full(
    redis: Redis, claims: Claims, full: Callable[[], None]
) -> None:
    await claims.heartbeat()
    await redis.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(TakesNoWrites):
            await claims.prove()
    finally:
        await redis.replicaof("NO", "ONE")
    full()
    await redis.pexpire(keys.alive("one"), 500)
    await claims.prove()
    assert await redis.pttl(keys.alive("one")) > 500


async def test_an_abandoned_instance_is_dead_at_once(claims: Claims) -> None:
    await claims.heartbeat()
    await claims.abandon()
    assert not await claims.is_alive("one")


async def test_a_full_redis_is_emptied_all_the_same(redis: Redis, claims: Claims, full: Callable[[], None]) -> None:
    await queue(redis, *(b"%d" % number for number in range(5)))
    full()
    with pytest.raises(OutOfMemoryError):
        await queue(redis, b"new")
    assert not await claims.heartbeat()
    assert [await claims.take(1) for _ in range(3)] == [b"0", b"1", b"2"]
    assert claims.redis_full
    await claims.requeue_always(b"2", behind=1)
    assert await claims.requeue(b"1")
    await claims.finish(b"0")
    assert await queued(redis) == [b"1", b"3", b"2", b"4"]
    for _ in range(2):
        await claims.take(1)
    assert await claims.requeue_all() == 2
    assert await queued(redis) == [b"1", b"3", b"2", b"4"]
    assert await claims.heartbeat()
    assert [(found.name, found.alive) for found in await claims.instances()] == [("one", True)]


async def test_an_empty_queue_in_a_full_redis_is_not_asked_without_a_pause(
    claims: Claims, full: Callable[[], None]
) -> None:
    full()
    started = time.monotonic()
    assert await claims.take(1) is None
    assert time.monotonic() - started >= 0.9
    assert claims.redis_full


async def test_a_redis_with_room_again_is_not_called_full(
    redis: Redis, claims: Claims, full: Callable[[], None]
) -> None:
    full()
    await claims.heartbeat()
    assert claims.redis_full
    await redis.config_set("maxmemory", 0)
    await claims.heartbeat()
    assert not claims.redis_full
