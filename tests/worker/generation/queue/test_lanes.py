"""Lanes: turns by weight, no message lost or reordered in its lane, and no payer waits for all of another one's."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.sandbox import Sandbox
from worker import clients
from worker.generation import keys
from worker.generation.odd import set_aside_wrong_keys
from worker.generation.queue import departure
from worker.generation.queue.claims import Claims, Instance
from worker.generation.queue.lane_scripts import BULK
from worker.generation.queue.lane_view import LaneView
from worker.generation.queue.lanes import SORT_BATCH, Lanes, Rules
from worker.generation.sessions.ownership import Ownership
from worker.settings import Settings

STORES = [str(UUID(int=number)) for number in range(1, 5)]
#: Lanes of the model, bulk among them.
NAMES = ["b2c", *STORES[:2], BULK + STORES[0]]


def message(lane: str, number: object = 0, **more: object) -> bytes:
    """A message of one payer, as far as lanes read messages."""
    store, bulk = lane.removeprefix(BULK), {"priority": "bulk"} if lane.startswith(BULK) else {}
    owner = {"channel": "b2c", "user_id": str(uuid4())} if lane == "b2c" else {"channel": "b2b", "store_id": store}
    return json.dumps(
        {**owner, **bulk, "session_id": str(uuid4()), "number": number, "created_at": str(number), **more}
    ).encode()


def of(payload: bytes | str | None) -> tuple[str, object]:
    """Lane and number of a message."""
    assert payload is not None
    fields = json.loads(payload)
    return (BULK if "priority" in fields else "") + fields.get("store_id", "b2c"), fields["number"]


async def push(redis: Redis, *payloads: bytes) -> None:
    await redis.lpush(keys.QUEUE, *payloads)  # bytes are fine


def worker(redis: Redis, name: str = "one", **rules: object) -> Claims:
    return Claims(redis, name, lease_seconds=30, rules=Rules(**{"slots": 100, **rules}))  # type: ignore[arg-type]


async def taken(claims: Claims, count: int) -> list[str]:
    return [of(await claims.take(1))[0] for _ in range(count)]


async def sort_all(claims: Claims) -> None:
    while await claims.lanes.sort():
        pass


async def merge_all(lanes: Lanes) -> None:
    while await lanes.merge():
        pass


async def test_a_store_with_one_message_starts_within_two_slots_of_one_with_thousands(redis: Redis) -> None:
    claims = worker(redis)
    many, one = STORES[:2]
    await push(redis, *(message(many, number) for number in range(3 * SORT_BATCH)))
    await taken(claims, 4)
    await push(redis, message(one))
    await sort_all(claims)
    assert one in await taken(claims, 2)


async def test_lanes_share_by_weight(redis: Redis) -> None:
    claims = worker(redis, weights={"b2c": 3, STORES[0]: 2})
    for lane in ("b2c", *STORES[:2]):
        await push(redis, *(message(lane) for _ in range(30)))
    await sort_all(claims)
    assert Counter(await taken(claims, 30)) == {"b2c": 15, STORES[0]: 10, STORES[1]: 5}


async def test_the_weight_of_store_is_that_of_every_store_without_its_own(redis: Redis) -> None:
    claims = worker(redis, weights={"store": 2})
    for lane in ("b2c", STORES[0]):
        await push(redis, *(message(lane) for _ in range(20)))
    await sort_all(claims)
    assert Counter(await taken(claims, 12)) == {"b2c": 4, STORES[0]: 8}


async def test_an_idle_lane_gives_its_share_to_the_others_and_saves_nothing(redis: Redis) -> None:
    claims = worker(redis)
    busy, late = STORES[:2]
    await push(redis, *(message(busy) for _ in range(60)))
    assert set(await taken(claims, 30)) == {busy}
    await push(redis, *(message(late) for _ in range(60)))
    await sort_all(claims)
    assert Counter(await taken(claims, 20)) == {busy: 10, late: 10}


async def test_a_lane_that_is_always_refilled_starves_none(redis: Redis) -> None:
    claims = worker(redis)
    greedy, patient = STORES[:2]
    await push(redis, message(greedy), *(message(patient) for _ in range(10)))
    seen = []
    for _ in range(12):
        seen += await taken(claims, 1)
        if seen[-1] == greedy:
            await push(redis, message(greedy))
    assert Counter(seen)[patient] >= 5


async def test_a_lane_with_its_share_of_the_slots_waits_while_others_do(redis: Redis) -> None:
    here, there = worker(redis, slots=4, max_running=0.5), worker(redis, "two", slots=4, max_running=0.5)
    for claims in (here, there):
        await claims.heartbeat()
    for claims in (here, there):
        await claims.others()  # as each sweep does
    many, few = STORES[:2]
    await push(redis, *(message(many) for _ in range(20)))
    assert await taken(here, 3) + await taken(there, 3) == 6 * [many]  # alone it may have more than four
    await push(redis, message(few), message(few))
    assert await taken(there, 2) == [few, few]
    assert await taken(there, 1) == [many]


async def test_what_ends_or_goes_back_leaves_room_for_its_lane(redis: Redis) -> None:
    claims = worker(redis, slots=4, max_running=0.5)
    await claims.heartbeat()
    many, few = STORES[:2]
    await push(redis, *(message(many, number) for number in range(20)))
    first, second = [await claims.take(1) for _ in range(2)]
    assert first
    assert second
    await claims.finish(first)
    await claims.finish(first)  # a second time: nothing
    assert await claims.requeue(second)
    assert await redis.exists(keys.running("one")) == 0
    await push(redis, *(message(few) for _ in range(20)))
    assert Counter(await taken(claims, 4)) == {many: 2, few: 2}


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"\xff\x00",
        b"{}",
        b'{"channel": "b2b"}',
        b'{"channel": "b2b", "store_id": "no-uuid"}',
        b'{"channel": "b2b", "store_id": 7}',
        message("b2c", prompt='"channel":"b2b","store_id":"00000000-0000-0000-0000-000000000001"'),
        message(STORES[0])[:20] + b" " * 300_000,
    ],
    ids=range(8),
)
async def test_a_message_without_a_payer_waits_with_the_users(redis: Redis, odd: bytes) -> None:
    claims = worker(redis)
    await push(redis, odd, message(STORES[0]))
    await claims.lanes.sort()
    assert set(await redis.zrange(keys.LANES, 0, -1)) == {b"b2c", STORES[0].encode()}
    assert {await claims.take(1), await claims.take(1)} > {odd}


async def test_a_store_has_one_lane_however_its_id_is_written(redis: Redis) -> None:
    store = str(uuid4())
    claims = worker(redis)
    await push(redis, message(store), message(store.upper()), message(store).replace(b'": "', b'":"'))
    await push(redis, *(message(written) for written in (UUID(store).hex, f"{{{store}}}", UUID(store).urn)))
    await claims.lanes.sort()
    assert await redis.zrange(keys.LANES, 0, -1) == [store.encode()]


async def test_bulk_is_known_however_its_ids_are_written(redis: Redis) -> None:
    """Else a manifest would wait in the users' lane, with all slots, and end after an hour."""
    store, session, claims = uuid4(), uuid4(), worker(redis)
    await push(redis, message(store.hex, session_id=session.hex, priority="bulk"), message("b2c"))
    await claims.lanes.sort()
    assert f"bulk-{store}".encode() in await redis.zrange(keys.LANES, 0, -1)
    assert await claims.lanes.bulk([session]) == {session}


async def test_a_worker_that_waits_wakes_up_whatever_another_one_has_sorted(redis: Redis, settings: Settings) -> None:
    """One message is always left in the queue, and it is in its right place."""
    async with clients.redis_client(settings) as second:
        waiting = asyncio.create_task(worker(second, "two").take(5))
        await asyncio.sleep(0.2)
        await push(redis, *(message("b2c", number) for number in range(3)))
        woken = await asyncio.wait_for(waiting, 2)
        rest = [await worker(redis).take(1) for _ in range(2)]
    assert sorted(str(of(payload)[1]) for payload in (woken, *rest)) == ["0", "1", "2"]


async def test_the_last_worker_of_this_version_leaves_one_queue_in_order(redis: Redis) -> None:
    claims = worker(redis)
    await push(redis, *(message(lane, number) for number in range(4) for lane in ("b2c", STORES[0])))
    first = await claims.take(1)
    assert first
    assert await claims.requeue(first)
    await merge_all(claims.lanes)
    left = [of(payload) for payload in reversed(await redis.lrange(keys.QUEUE, 0, -1))]
    assert [[number for lane, number in left if lane == name] for name in ("b2c", STORES[0])] == [[0, 1, 2, 3]] * 2
    assert set(await redis.keys("wearon:*")) == {keys.QUEUE.encode()}


async def test_of_workers_that_leave_at_once_the_last_one_leaves_one_queue(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, both_looked, look = set(), asyncio.Barrier(2), Claims.others

    async def others(claims: Claims) -> list[Instance]:
        found = await look(claims)
        if claims.instance not in looked:
            looked.add(claims.instance)
            await both_looked.wait()
        return found

    monkeypatch.setattr(Claims, "others", others)
    both = [worker(redis, name) for name in ("one", "two")]
    for claims in both:
        await claims.heartbeat()
    await push(redis, *(message(lane) for lane in STORES))
    await sort_all(both[0])
    await asyncio.gather(*(departure.leave(claims, Ownership(redis)) for claims in both))
    assert set(await redis.keys("wearon:*")) == {keys.QUEUE.encode()}


@pytest.mark.parametrize(("sign", "stays"), [("lanes", 1), ("1", 0)], ids=["this version", "an older one"])
async def test_messages_stay_in_lanes_for_a_neighbour_that_serves_lanes(redis: Redis, sign: str, stays: int) -> None:
    claims = worker(redis)
    await claims.heartbeat()
    await redis.sadd(keys.INSTANCES, "two")
    await redis.set(keys.alive("two"), sign)
    await push(redis, *(message(lane) for lane in STORES))
    await sort_all(claims)
    await departure.leave(claims, Ownership(redis))
    assert await redis.exists(keys.LANES_MESSAGES) == stays


async def test_a_long_queue_is_merged_however_long_that_takes(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patience is with each step: 100 000 messages take half a minute."""
    monkeypatch.setattr("worker.generation.queue.lanes._MERGE_BATCH", 1)
    monkeypatch.setattr(departure, "_PATIENCE_SECONDS", 0.5)
    claims = worker(redis)
    script = claims.lanes._merge

    async def far_away(**words: Any) -> Any:
        await asyncio.sleep(0.05)
        return await script(**words)

    monkeypatch.setattr(claims.lanes, "_merge", far_away)
    await push(redis, *(message(STORES[0]) for _ in range(20)))
    await sort_all(claims)
    assert await departure.leave(claims, Ownership(redis)) == 0
    assert await redis.llen(keys.QUEUE) == 20


async def test_a_message_taken_by_a_version_without_lanes_leaves_the_others_visible_and_in_turn(redis: Redis) -> None:
    claims = worker(redis)
    busy, late = STORES[:2]
    await push(redis, message(late), *(message(busy) for _ in range(59)))
    await sort_all(claims)
    old = await redis.blmove(keys.QUEUE, keys.claimed("old"), 1, "RIGHT", "LEFT")
    assert of(old) == (late, 0)
    await claims.lanes.sort()
    assert await redis.llen(keys.QUEUE) == 1  # else that version waits, and calls sessions lost
    assert set(await taken(claims, 30)) == {busy}
    await push(redis, *(message(late) for _ in range(60)))
    await sort_all(claims)
    assert Counter(await taken(claims, 20)) == {busy: 10, late: 10}


async def test_messages_without_their_lanes_are_found_again(redis: Redis) -> None:
    claims = worker(redis)
    await push(redis, *(message(lane) for lane in STORES for _ in range(2)))
    await sort_all(claims)
    await redis.delete(keys.LANES, keys.QUEUE)
    assert not await claims.are_all_empty()
    assert Counter(await taken(claims, 7)) == {STORES[0]: 2, STORES[1]: 2, STORES[2]: 2, STORES[3]: 1}
    assert await redis.exists(keys.QUEUE, keys.LANES, keys.LANES_MESSAGES) == 0


async def test_values_that_are_no_numbers_hold_up_nothing(redis: Redis) -> None:
    claims = worker(redis)
    await push(redis, *(message("b2c", number) for number in range(3)))
    await redis.hset(keys.LANES_CLOCK, mapping=dict.fromkeys(("turn", "first", "last"), "odd"))
    await redis.hset(keys.running("one"), "b2c", "odd")
    await redis.set(keys.LANES_RETURNED, "odd")
    first = await claims.take(1)
    assert first
    await redis.set(keys.LANES_RETURNED, "odd")
    await claims.requeue_always(first)
    assert [of(await claims.take(1))[1] for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("name", [keys.running("one"), keys.QUEUE, keys.LANES_RETURNED])
async def test_a_requeued_message_is_not_lost_to_a_key_of_another_type(redis: Redis, name: str) -> None:
    redis.on_wrong_type = set_aside_wrong_keys  # type: ignore[attr-defined]  # as bootstrap does
    claims = worker(redis)
    await push(redis, *(message("b2c", number) for number in range(3)))
    payload = await claims.take(1)
    assert payload
    assert await claims.take(1)
    await redis.delete(name)
    await redis.xadd(name, {"somebody": "else"})
    with suppress(ResponseError):
        await claims.requeue(payload)
    await claims.requeue(payload)
    assert (await redis.lrange(keys.QUEUE, -1, -1), await claims.count()) == ([payload], 1)


@pytest.mark.parametrize("name", [keys.LANES, keys.LANES_MESSAGES, keys.LANES_CLOCK, keys.LANES_RETURNED])
async def test_a_key_of_another_type_is_set_aside(redis: Redis, name: str) -> None:
    redis.on_wrong_type = set_aside_wrong_keys  # type: ignore[attr-defined]  # as bootstrap does
    await redis.xadd(name, {"somebody": "else"})
    claims = worker(redis)
    await push(redis, message("b2c", 1), message("b2c", 2))
    with suppress(ResponseError):  # the next round of the consumer finds a key of its own
        await claims.lanes.sort()
    assert [of(await claims.take(1))[1] for _ in range(2)] == [1, 2]
    assert await redis.xlen(name + ":odd") == 1


async def test_bulk_is_chosen_once_no_other_lane_waits_and_in_turn_by_weight(redis: Redis) -> None:
    claims = worker(redis, slots=2, max_running=0.5, weights={STORES[0]: 2})
    await push(redis, *(message(BULK + store) for store in STORES[:2] for _ in range(4)))
    await push(redis, *(message(STORES[2]) for _ in range(3)))
    await sort_all(claims)
    assert await taken(claims, 3) == 3 * [STORES[2]]  # more than its share of the slots
    await redis.delete(keys.running("one"))
    claims = worker(redis, weights={STORES[0]: 2})
    bulk = await taken(claims, 3)
    assert Counter(bulk) == {BULK + STORES[0]: 2, BULK + STORES[1]: 1}
    await push(redis, message("b2c"))
    assert await taken(claims, 2) == ["b2c", BULK + STORES[0]]


async def test_bulk_leaves_slots_of_each_instance_to_others(redis: Redis) -> None:
    claims = worker(redis, slots=4, bulk_share=0.5)
    await push(redis, *(message(BULK + STORES[0], number) for number in range(5)))
    first, second = await claims.take(1), await claims.take(1)
    assert await claims.take(1) is None
    assert claims.lanes.held_back
    assert await worker(redis, "two", slots=4, bulk_share=0.5).take(1)
    await push(redis, message("b2c"), message(STORES[0]))
    assert {of(await claims.take(1))[0] for _ in range(2)} == {"b2c", STORES[0]}
    assert first
    await claims.finish(first)
    assert [of(payload)[1] for payload in (first, second, await claims.take(1))] == [0, 1, 3]


async def test_a_shopper_behind_thousands_of_bulk_has_the_next_free_slot(redis: Redis) -> None:
    """Every slot of bulk is taken, and the manifest's messages came faster than slots."""
    claims = worker(redis, slots=2, bulk_share=0.5)
    await push(redis, *(message(BULK + STORES[0], number) for number in range(2000)), message("b2c"))
    assert of(await claims.take(1))[0] == BULK + STORES[0]
    found = [payload for _ in range(10) if (payload := await claims.take(1))]
    assert of(found[0])[0] == "b2c"


async def test_a_single_message_of_bulk_waits_for_a_slot_too(redis: Redis) -> None:
    claims = worker(redis, slots=1)
    await push(redis, message(BULK + STORES[0], 1))
    first = await claims.take(1)
    await push(redis, message(BULK + STORES[0], 2))
    assert await claims.take(1) is None
    assert first
    await claims.finish(first)
    assert of(await claims.take(1))[1] == 2


async def test_slots_of_bulk_are_wanted_by_others_only(redis: Redis) -> None:
    claims = worker(redis)
    assert await claims.lanes.wanted("one") == -1
    await push(redis, *(message(BULK + store, number) for number, store in enumerate(STORES)))
    await claims.take(1)
    assert await claims.lanes.wanted("one") == 0
    await push(redis, message("b2c"), message(STORES[0]))
    assert await claims.lanes.wanted("one") == 2
    await sort_all(claims)
    assert await claims.lanes.wanted("one") == 2


async def test_sessions_of_bulk_are_known_until_they_end(redis: Redis) -> None:
    claims = worker(redis)
    await push(redis, *(message(lane) for lane in (BULK + STORES[0], BULK + STORES[0], STORES[0], "b2c")))
    payloads = [payload for _ in range(4) if (payload := await claims.take(1))]
    ids = {of(payload)[0]: UUID(json.loads(payload)["session_id"]) for payload in payloads}
    assert await claims.lanes.bulk(list(ids.values())) == {ids[BULK + STORES[0]]}
    assert await redis.zcard(keys.BULK_SESSIONS) == 2
    for payload in payloads:
        await claims.finish(payload)
    assert await redis.exists(keys.BULK_SESSIONS) == 0


@pytest.mark.parametrize("text", ['"priority": "bulk"', '"priority":"bulk"', '"priority" : "bulk"'])
async def test_only_a_store_has_bulk(redis: Redis, text: str) -> None:
    claims = worker(redis)
    await push(redis, message("b2c")[:-1] + b", " + text.encode() + b"}", message(STORES[0], prompt=text))
    await sort_all(claims)
    assert set(await redis.zrange(keys.LANES, 0, -1)) <= {b"b2c", STORES[0].encode()}


async def test_a_version_without_bulk_that_has_served_a_lane_of_bulk_leaves_the_turns_in_order(redis: Redis) -> None:
    claims = worker(redis)
    await push(redis, *(message(BULK + STORES[0]) for _ in range(3)))
    await sort_all(claims)
    await redis.hset(keys.LANES_CLOCK, "turn", "1000000000001.5")
    await push(redis, *(message("b2c") for _ in range(2)))
    assert await taken(claims, 5) == 2 * ["b2c"] + 3 * [BULK + STORES[0]]


async def test_the_lanes_are_shown_with_what_waits_runs_and_ended(redis: Redis) -> None:
    claims = worker(redis)
    await push(redis, *(message(STORES[0], number) for number in range(3)), message("b2c"))
    while (payload := await claims.take(1)) and of(payload)[0] != STORES[0]:
        await claims.finish(payload)
    shown = {lane.name: lane for lane in await LaneView(redis).look(["one"], 1000)}
    assert (shown[STORES[0]].waiting, shown[STORES[0]].running) == (2, 1)
    assert shown[STORES[0]].oldest == "1"
    assert await claims.lanes.waiting() == sum(lane.waiting for lane in shown.values())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(NAMES)),
        st.tuples(st.sampled_from(["take", "sort", "merge", "finish", "requeue", "requeue_all"]), st.just("")),
        st.tuples(st.just("behind"), st.just("")),
    ),
    max_size=40,
)


@budget(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_every_message_is_in_one_list_and_each_lane_keeps_its_order(
    sandbox: Sandbox, steps: list[tuple[str, str]]
) -> None:
    """Held against a model that knows each lane's order, over any steps of any length."""
    asyncio.run(_run(sandbox, steps))


async def _run(sandbox: Sandbox, steps: list[tuple[str, str]]) -> None:
    redis = Redis.from_url(sandbox.env()["REDIS_URL"])
    try:
        await _follow(redis, steps)
    finally:
        await redis.flushdb()
        await redis.aclose()


async def _follow(redis: Redis, steps: list[tuple[str, str]]) -> None:
    claims, lanes = worker(redis), Lanes(redis, Rules(slots=100))
    model: dict[str, list[bytes]] = {name: [] for name in NAMES}
    held: list[bytes] = []
    for number, (step, lane) in enumerate(steps):
        if step == "push":
            model[lane].append(message(lane, number))
            await push(redis, model[lane][-1])
        elif step == "take":
            payload = await lanes.choose("one")
            assert (payload is None) == (not any(model.values()))
            if payload:
                assert model[of(payload)[0]].pop(0) == payload
                held.append(payload)
        elif step == "sort":
            await lanes.sort()
        elif step == "merge":
            await merge_all(lanes)
        elif step == "finish" and held:
            await claims.finish(held.pop())
        elif step == "requeue" and held:
            payload = held.pop()
            assert await claims.requeue(payload)
            model[of(payload)[0]].insert(0, payload)
        elif step == "requeue_all":
            assert await claims.requeue_all() == len(held)
            for payload in reversed(held):
                model[of(payload)[0]].insert(0, payload)
            held.clear()
        elif step == "behind" and held:
            await claims.requeue_always(payload := held.pop(), behind=3)
            # Others of its lane that were in front stay so; where exactly it waits shows when it is taken.
            model[of(payload)[0]] = [*model[of(payload)[0]], payload]
            await _settle_order(redis, lanes, model[of(payload)[0]])
        assert bool(await redis.exists(keys.QUEUE)) or not await redis.exists(keys.LANES)
        assert await lanes.waiting() == sum(map(len, model.values()))
        running: Any = await redis.hgetall(keys.running("one"))
        counted = {name.decode(): int(count) for name, count in running.items()}
        assert counted == Counter(of(payload)[0] for payload in held)
        assert await _running_bulk(redis) >= {json.loads(it)["session_id"] for it in held if of(it)[0].startswith(BULK)}


async def _running_bulk(redis: Redis) -> set[str]:
    names: Any = await redis.zrange(keys.BULK_SESSIONS, 0, -1)
    return {name.decode() for name in names}


async def _settle_order(redis: Redis, lanes: Lanes, expected: list[bytes]) -> None:
    """Learn where a message went that was requeued behind others, whose own order must not change."""
    await merge_all(lanes)
    found = [payload for payload in reversed(await redis.lrange(keys.QUEUE, 0, -1)) if payload in expected]
    assert [payload for payload in found if payload != expected[-1]] == expected[:-1]
    expected[:] = found
