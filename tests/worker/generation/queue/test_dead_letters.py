"""The dead-letter list and `wearon-worker dead`, against a real Redis."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result
from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker.cli.dead import NoSuchLetter, command
from worker.errors import ServiceUnavailable, SettingsError
from worker.generation import keys
from worker.generation.queue.dead_letter import MAX_PAYLOAD_BYTES, CannotReplay, DeadLetter
from worker.generation.queue.dead_letters import DeadLetters

LIMIT_BYTES = 1024 * 1024


async def all_of(letters: DeadLetters) -> list[DeadLetter]:
    """Newest first."""
    return [letter async for letter in letters.newest_first()]


@pytest.fixture
async def letters(sandbox: Sandbox) -> AsyncIterator[DeadLetters]:
    async with Redis.from_url(sandbox.redis_url) as redis:
        yield DeadLetters(redis, limit=5, limit_bytes=LIMIT_BYTES)


async def test_a_replay_moves_the_message_to_the_producers_end_of_the_queue(
    sandbox: Sandbox, letters: DeadLetters
) -> None:
    payload = b'{"version": 2} \xff'
    letter = await letters.add(payload, "unknown_version", "version is 2")
    sandbox.redis.lpush(keys.QUEUE, "older")
    found = await letters.find(letter.id)
    assert found is not None
    assert await letters.replay(found)
    async with Redis.from_url(sandbox.redis_url) as redis:
        assert await redis.lrange(keys.QUEUE, 0, -1) == [payload, b"older"]
    assert await all_of(letters) == []


async def test_two_replays_at_once_queue_the_message_once(sandbox: Sandbox, letters: DeadLetters) -> None:
    await letters.add(b"{}", "invalid_field", "")
    (found,) = await all_of(letters)
    assert sorted(await asyncio.gather(letters.replay(found), letters.replay(found))) == [False, True]
    assert sandbox.redis.llen(keys.QUEUE) == 1


async def test_a_message_that_was_cut_off_is_not_replayed(sandbox: Sandbox, letters: DeadLetters) -> None:
    await letters.add(b"x" * (MAX_PAYLOAD_BYTES + 1), "too_large", "")
    (found,) = await all_of(letters)
    assert len(found.message) < MAX_PAYLOAD_BYTES
    with pytest.raises(CannotReplay, match="262145 bytes"):
        await letters.replay(found)
    assert sandbox.redis.llen(keys.DEAD) == 1


async def test_the_largest_message_is_kept_whole(letters: DeadLetters) -> None:
    payload = b"x" * MAX_PAYLOAD_BYTES
    await letters.add(payload, "not_json", "")
    (found,) = await all_of(letters)
    assert found.complete
    assert found.message == payload


async def test_the_oldest_make_room_and_are_counted(letters: DeadLetters) -> None:
    added = [await letters.add(b"%d" % number, "not_json", "") for number in range(8)]
    assert [letter.id for letter in await all_of(letters)] == [letter.id for letter in reversed(added[3:])]
    assert await letters.made_room() == 3


async def test_the_oldest_make_room_by_their_bytes_as_well(sandbox: Sandbox) -> None:
    async with Redis.from_url(sandbox.redis_url) as redis:
        letters = DeadLetters(redis, limit=1000, limit_bytes=LIMIT_BYTES)
        added = [await letters.add(b"x" * MAX_PAYLOAD_BYTES, "invalid_field", "") for _ in range(5)]
        assert [letter.id for letter in await all_of(letters)] == [added[4].id, added[3].id]
        assert await letters.made_room() == 3
        assert await kept_bytes(redis) <= LIMIT_BYTES
        await letters.add(b"small", "not_json", "")
        assert len(await all_of(letters)) == 3
        for letter in await all_of(letters):
            assert await letters.drop(letter)
        assert await redis.exists(keys.DEAD_BYTES) == 0


async def kept_bytes(redis: Redis) -> int:
    """The size of the list, which must be what its counter says."""
    size = sum(map(len, await redis.lrange(keys.DEAD, 0, -1)))
    assert int(await redis.get(keys.DEAD_BYTES) or 0) == size
    return size


async def test_letters_of_an_earlier_version_are_counted(redis: Redis) -> None:
    letters = DeadLetters(redis, limit=1000, limit_bytes=LIMIT_BYTES)
    for _ in range(8):
        await redis.lpush(keys.DEAD, "x" * 200_000)
    await letters.add(b"1", "not_json", "")
    assert await redis.llen(keys.DEAD) == 6
    assert await letters.made_room() == 3
    assert await kept_bytes(redis) <= LIMIT_BYTES


async def test_in_a_full_redis_a_letter_takes_the_place_of_older_ones(
    redis: Redis, full: Callable[[], None], letters: DeadLetters
) -> None:
    for number in range(4):
        await letters.add(b"%d" % number * 100, "not_json", "")
    full()
    added = await letters.add(b"x" * 150, "not_json", "")
    assert [letter.message[:1] for letter in await all_of(letters)] == [b"x", b"3", b"2"]
    assert await letters.made_room() == 2
    await kept_bytes(redis)
    (found,) = [letter async for letter in letters.oldest_first() if letter.id == added.id]
    assert await letters.replay(found)


async def test_a_letter_finds_its_place_in_a_full_redis_without_letters(
    full: Callable[[], None], letters: DeadLetters
) -> None:
    full()
    added = await letters.add(b"1", "not_json", "")
    assert await all_of(letters) == [added]


async def test_the_oldest_come_first_whether_or_not_they_are_taken_meanwhile(sandbox: Sandbox) -> None:
    async with Redis.from_url(sandbox.redis_url) as redis:
        letters = DeadLetters(redis, limit=1000, limit_bytes=LIMIT_BYTES)
        for number in range(45):
            await letters.add(b"%d" % number, "not_json", "")
        seen = []
        async for letter in letters.oldest_first():
            seen.append(int(letter.message))
            if seen[-1] % 3:
                assert await letters.drop(letter)
        assert seen == list(range(45))
        assert [int(letter.message) for letter in await all_of(letters)] == list(range(42, -1, -3))


async def test_an_entry_that_is_no_letter_is_shown_and_can_be_dropped(redis: Redis, letters: DeadLetters) -> None:
    for entry in ("no JSON", '{"id": 1}', "[]"):
        await redis.lpush(keys.DEAD, entry)
    found = await all_of(letters)
    assert [letter.reason for letter in found] == ["unreadable"] * 3
    assert found[2].message == b"no JSON"
    assert await letters.drop(found[2])
    assert len(await all_of(letters)) == 2


async def test_a_long_list_is_read_completely(sandbox: Sandbox) -> None:
    async with Redis.from_url(sandbox.redis_url) as redis:
        many = DeadLetters(redis, limit=1000, limit_bytes=LIMIT_BYTES)
        for number in range(120):
            await many.add(b"%d" % number, "not_json", "")
        assert [letter.message for letter in await all_of(many)] == [b"%d" % number for number in reversed(range(120))]


class Dead:
    """`wearon-worker dead` in the sandbox's environment."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._env = sandbox.env()
        self._sandbox = sandbox

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(command, arguments, env=self._env)

    def add(self, payload: bytes, reason: str = "invalid_field", detail: str = "created_at: missing") -> str:
        async def add() -> str:
            async with Redis.from_url(self._sandbox.redis_url) as redis:
                return (await DeadLetters(redis, limit=100, limit_bytes=LIMIT_BYTES).add(payload, reason, detail)).id

        return asyncio.run(add())


@pytest.fixture
def dead(sandbox: Sandbox) -> Dead:
    return Dead(sandbox)


def test_list_shows_the_reason_and_the_session(dead: Dead) -> None:
    session_id = str(uuid4())
    letter_id = dead.add(json.dumps({"channel": "b2c", "session_id": session_id}).encode())
    output = " ".join(dead("list").output.split())
    assert letter_id in output
    assert "invalid_field" in output
    assert "1 dead letters, 0 older ones made room" in output


def test_show_prints_the_message_without_what_is_secret_in_its_addresses(dead: Dead) -> None:
    urls = [
        "https://user:hunter2@x.supabase.co/storage/v1/object/sign/a.jpg?token=s3cret&x=1",
        "HTTPS://cdn.example.com/b.png#s3cret",
    ]
    letter_id = dead.add(json.dumps({"image_urls": urls, "prompt": "red ☂"}).encode())
    output = dead("show", letter_id).output
    assert "https://x.supabase.co/storage/v1/object/sign/a.jpg?..." in output
    assert "b.png?..." in output
    assert "red ☂" in output
    assert not any(secret in output for secret in ("s3cret", "hunter2", "token"))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"image_urls": ["https:\\/\\/h.co\\/a.jpg?token=s3cret"',
        b'{"image_urls": ["https://h.co/a.jpg\\u003ftoken=s3cret", ]',
        b"\xff\x1b[2J https://user:s3cret@h.co/a.jpg?s3cret https://h.co?s3cret",
    ],
)
def test_show_hides_secrets_in_what_is_no_json_and_leaves_the_terminal_alone(dead: Dead, payload: bytes) -> None:
    output = dead("show", dead.add(payload, "not_json")).output
    assert "h.co" in output
    assert "s3cret" not in output
    assert "\x1b" not in output


def test_show_of_an_unknown_id_is_one_clear_line(dead: Dead) -> None:
    error = dead("show", "nonsense").exception
    assert isinstance(error, NoSuchLetter)
    assert "no dead letter nonsense" in str(error)


def test_replay_says_that_failed_sessions_stay_failed(sandbox: Sandbox, dead: Dead) -> None:
    letter_id = dead.add(b'{"version": 2}')
    output = dead("replay", letter_id).output
    assert f"{letter_id} replayed" in output
    assert "failed and refunded stay so" in output
    assert sandbox.redis.lrange(keys.QUEUE, 0, -1) == ['{"version": 2}']


def test_replay_of_all_takes_the_oldest_first_and_leaves_what_was_cut_off(sandbox: Sandbox, dead: Dead) -> None:
    dead.add(b"1")
    large = dead.add(b"x" * (MAX_PAYLOAD_BYTES + 1))
    dead.add(b"2")
    result = dead("replay", "--all")
    assert result.exit_code == 0
    assert f"{large} cannot be replayed" in result.output
    assert [sandbox.redis.rpop(keys.QUEUE) for _ in range(2)] == ["1", "2"]
    assert sandbox.redis.llen(keys.DEAD) == 1


def test_replay_of_all_ends_although_a_worker_refuses_the_messages_again(
    dead: Dead, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay, replayed = DeadLetters.replay, 0

    async def replay_and_refuse(letters: DeadLetters, letter: DeadLetter) -> bool:
        nonlocal replayed
        replayed += 1
        assert replayed < 20
        done = await replay(letters, letter)
        await letters.add(letter.message, letter.reason, letter.detail)
        return done

    monkeypatch.setattr(DeadLetters, "replay", replay_and_refuse)
    for number in range(12):
        dead.add(b"%d" % number)
    result = dead("replay", "--all")
    assert (result.exception, replayed) == (None, 12)
    assert "12 replayed" in result.output


def test_drop_deletes_only_what_was_named(sandbox: Sandbox, dead: Dead) -> None:
    first, second = dead.add(b"1"), dead.add(b"2")
    assert "1 dropped" in dead("drop", first).output
    assert second in dead("list").output
    assert "1 dropped" in dead("drop", "--all").output
    assert sandbox.redis.llen(keys.DEAD) == 0
    assert sandbox.redis.llen(keys.QUEUE) == 0


@pytest.mark.parametrize("arguments", [("drop",), ("drop", "some-id", "--all"), ("replay",)])
def test_neither_ids_nor_all_or_both_is_a_usage_error(dead: Dead, arguments: tuple[str, ...]) -> None:
    result = dead(*arguments)
    assert result.exit_code == 2
    assert "either the ids or --all" in result.output


def test_a_redis_that_is_away_is_one_clear_line_at_once(sandbox: Sandbox, dead: Dead) -> None:
    sandbox.valkey.stop()
    error = dead("list").exception
    assert isinstance(error, ServiceUnavailable)
    assert "REDIS_URL" in str(error)


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    error = CliRunner().invoke(command, ["list"]).exception
    assert isinstance(error, SettingsError)
    assert "REDIS_URL is not set" in str(error)
