"""Kept messages and addresses in Redis: old ones go, an owner's go, and no outcome is lost."""

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker.generation import keys
from worker.generation.data_life.remains import Remains, Trimmed
from worker.generation.outcome import Outcome
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.sessions.rejected import Rejected

BEFORE = datetime.now(UTC) - timedelta(hours=6)


@pytest.fixture
def letters(redis: Redis) -> DeadLetters:
    return DeadLetters(redis, 100, 1024 * 1024)


@pytest.fixture
def remains(redis: Redis, letters: DeadLetters) -> Remains:
    return Remains(redis, letters)


async def kept(letters: DeadLetters) -> list[bytes]:
    return [letter.message async for letter in letters.oldest_first()]


def put(sandbox: Sandbox, message: bytes, hours: float | None) -> None:
    """A dead letter of that age; None: an entry that says nothing."""
    moment = (datetime.now(UTC) - timedelta(hours=hours or 0)).isoformat()
    fields = {"id": uuid4().hex[:12], "reason": "r", "detail": "", "time": moment, "payload_bytes": len(message)}
    item = json.dumps({**fields, "payload": b64encode(message).decode()})
    sandbox.redis.lpush(keys.DEAD, message if hours is None else item)


def outcome(session_id: UUID, hours: float, **more: Any) -> Outcome:
    known = datetime.now(UTC).timestamp() - hours * 3600
    fields = {"channel": "b2c", "session_id": session_id, "kind": "completed", "processing_time_ms": 1, **more}
    return Outcome.model_validate({"image_url": "https://signed/x?token=t", "known_at": known, **fields})


async def test_old_dead_letters_go_and_young_ones_stay(
    sandbox: Sandbox, remains: Remains, letters: DeadLetters
) -> None:
    for hours, message in ((8, b"a"), (None, b"odd"), (7, b"b"), (None, b"odd too"), (1, b"c"), (None, b"newest")):
        put(sandbox, message, hours)
    assert (await remains.trim(BEFORE, dry_run=True)).letters == 3
    assert len(await kept(letters)) == 6
    assert (await remains.trim(BEFORE)).letters == 3
    assert await kept(letters) == [b"odd too", b"c", b"newest"]


async def test_letters_of_a_region_that_was_moved_here_go_at_their_age(
    sandbox: Sandbox, remains: Remains, letters: DeadLetters
) -> None:
    """A move puts them in front of this region's letters, which are younger."""
    for hours, message in ((1, b"ours"), (8, b"moved"), (2, b"moved later")):
        put(sandbox, message, hours)
    assert (await remains.trim(BEFORE)).letters == 1
    assert await kept(letters) == [b"ours", b"moved later"]


async def test_a_kept_outcome_loses_its_old_address_and_stays(sandbox: Sandbox, redis: Redis, remains: Remains) -> None:
    old, young, failed = (outcome(uuid4(), 7), outcome(uuid4(), 1), outcome(uuid4(), 7, kind="failed", image_url=""))
    for each in (old, young, failed):
        sandbox.redis.hset(keys.SETTLEMENTS, str(each.session_id), each.model_dump_json())
    await Rejected(redis).add(str(uuid4()), old.model_dump_json(), "no")
    assert await remains.trim(BEFORE) == Trimmed(0, 1)
    found = {name: Outcome.model_validate_json(it) for name, it in sandbox.redis.hgetall(keys.SETTLEMENTS).items()}
    assert found[str(old.session_id)] == old.model_copy(update={"image_url": "expired"})
    assert [found[str(each.session_id)] for each in (young, failed)] == [young, failed]
    # A rejected outcome counts from its rejection.
    assert await remains.trim(datetime.now(UTC) + timedelta(hours=1)) == Trimmed(0, 2)
    (rejected,) = await Rejected(redis).list()
    assert rejected.field("image_url") == "expired"
    assert rejected.field("kind") == "completed"


async def test_an_owners_messages_and_addresses_go_and_no_others(
    sandbox: Sandbox, remains: Remains, letters: DeadLetters
) -> None:
    user, other = uuid4(), uuid4()
    for owner in (user, other):
        put(sandbox, json.dumps({"user_id": str(owner).upper(), "prompt": "p"}).encode(), 0)
    mine, theirs = outcome(uuid4(), 0), outcome(uuid4(), 0)
    for each in (mine, theirs):
        sandbox.redis.hset(keys.SETTLEMENTS, str(each.session_id), each.model_dump_json())

    async def owned(session_ids: list[str]) -> set[str]:
        return {str(mine.session_id)} & set(session_ids)

    assert await remains.erase(user, owned, dry_run=True) == Trimmed(1, 1)
    assert await remains.erase(user, owned) == Trimmed(1, 1)
    assert [str(other) in message.decode().lower() for message in await kept(letters)] == [True]
    assert "expired" in sandbox.redis.hget(keys.SETTLEMENTS, str(mine.session_id))
    assert "expired" not in sandbox.redis.hget(keys.SETTLEMENTS, str(theirs.session_id))


async def test_a_full_redis_loses_no_outcome(sandbox: Sandbox, remains: Remains, full: Any) -> None:
    old = outcome(uuid4(), 7)
    sandbox.redis.hset(keys.SETTLEMENTS, str(old.session_id), old.model_dump_json())
    full()
    assert await remains.trim(BEFORE) == Trimmed(0, 1)
    assert "expired" in sandbox.redis.hget(keys.SETTLEMENTS, str(old.session_id))
