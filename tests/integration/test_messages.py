"""Messages that cannot be used: dead-lettered, their session settled when it can be read, and the consumer goes on."""

import base64
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.conftest import Ended
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued

DEAD = "wearon:tasks:generation:dead"


@pytest.fixture(autouse=True)
def _empty_dead_letters(around: Sandbox) -> None:
    around.redis.delete(DEAD)


def dead_letters(around: Sandbox, count: int = 1, named: str = "") -> list[dict[str, Any]]:
    """Letters, or only those that name a session: a test before may have left a message that is refused late."""

    def letters() -> list[str]:
        return [letter for letter in around.redis.lrange(DEAD, 0, -1) if named in letter]

    wait_for(lambda: len(letters()) == count, 5, lambda: f"{letters()}, not {count} dead letters")
    return [json.loads(letter) for letter in letters()]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "not_json"),
        (b"", "not_json"),
        (b"[1, 2]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b'\xff\xfe{"a": 1}', "not_utf8"),
        (b"[" * 20_000, "not_json"),
        (b'{"a":' * 20_000, "not_json"),
        (b"{}", "invalid_field"),
        (b'{"prompt": "' + b"x" * 5_000_000 + b'"}', "too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[:12]!r}x{len(value)}",
)
def test_an_unusable_payload_becomes_a_dead_letter_and_the_next_message_is_worked_on(
    around: Sandbox, ended: Ended, marker: str, payload: bytes, reason: str
) -> None:
    around.producer.push(payload)
    queued = around.producer.b2c(prompt=marker)
    assert ended(queued, 5)["status"] == "completed"
    (letter,) = dead_letters(around)
    assert letter["reason"] == reason
    assert letter["payload_bytes"] == len(payload)
    assert payload.startswith(base64.b64decode(letter["payload"]))


def wrong(queued: Queued, **changes: Any) -> dict[str, Any]:
    message = {**queued.message, **changes}
    return {name: value for name, value in message.items() if value != "absent"}


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "absent"},
        {"user_id": None},
        {"user_id": "not-a-uuid"},
        {"task_id": 7},
        {"image_urls": []},
        {"image_urls": "https://example.com/a.jpg"},
        {"image_urls": [1, 2]},
        {"image_urls": ["https://example.com/a.jpg"] * 17},
        {"prompt": ["x"]},
        {"version": 2},
        {"version": "1"},
        {"version": True},
        {"created_at": 12},
        {"request_id": "absent"},
    ],
    ids=str,
)
def test_an_invalid_message_settles_the_session_that_it_names(
    around: Sandbox, ended: Ended, changes: dict[str, Any]
) -> None:
    queued = around.producer.b2c(push=False)
    around.producer.push(wrong(queued, **changes))
    row = ended(queued, 5)
    assert row["status"] == "failed"
    assert around.balance_changes(queued.owner_id) == [10, -1, 1]
    assert dead_letters(around)[0]["reason"] == ("unknown_version" if changes == {"version": 2} else "invalid_field")


@pytest.mark.parametrize("of", ["b2c", "b2b"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"channel": "b2x"}, "invalid_field"),
        ({"channel": None}, "invalid_field"),
        ({"channel": ["b2c"]}, "invalid_field"),
        ({"channel": "absent", "user_id": "absent", "store_id": "absent"}, "invalid_field"),
        ({"channel": "absent", "version": 2}, "unknown_version"),
        ({"channel": "absent", "prompt": "x" * 5_000_000}, "too_large"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_message_without_its_channel_settles_the_session_that_it_names(
    around: Sandbox, ended: Ended, of: str, changes: dict[str, Any], reason: str
) -> None:
    queued = around.producer.b2c(push=False) if of == "b2c" else around.producer.b2b(push=False)
    around.producer.push(wrong(queued, **changes))
    assert ended(queued, 5)["status"] == "failed"
    assert around.balance_changes(queued.owner_id)[1:] == [-1, 1]
    assert dead_letters(around)[0]["reason"] == reason


def test_a_message_without_its_channel_waits_for_the_database_and_is_refused_once(
    around: Sandbox, worker: WorkerProcess, ended: Ended
) -> None:
    queued = around.producer.b2c(push=False)
    around.gateway.fault("pool_exhausted", on="table/*", seconds=7)
    around.producer.push(wrong(queued, channel="absent"))
    assert ended(queued, 20)["status"] == "failed"
    assert around.balance_changes(queued.owner_id) == [10, -1, 1]
    assert len(dead_letters(around)) == 1


def test_of_two_sessions_with_one_id_only_that_of_the_named_owner_is_settled(around: Sandbox, ended: Ended) -> None:
    user, store = around.producer.b2c(push=False), around.producer.b2b(push=False)
    around.database.execute(
        "update store_generation_sessions set id = $1 where id = $2", UUID(user.session_id), UUID(store.session_id)
    )
    around.producer.push(wrong(user, channel="absent"))
    assert ended(user, 5)["status"] == "failed"
    assert around.session("b2b", user.session_id)["status"] == "queued"


@pytest.mark.parametrize(
    "changes", [{"session_id": "absent"}, {"session_id": 7}, {"channel": None, "session_id": "none"}], ids=str
)
def test_a_message_that_names_no_session_is_only_dead_lettered(around: Sandbox, changes: dict[str, Any]) -> None:
    queued = around.producer.b2c(push=False)
    around.producer.push(wrong(queued, **changes))
    assert dead_letters(around)[0]["reason"] == "invalid_field"
    assert around.session("b2c", queued.session_id)["status"] == "queued"  # the sweep ends it after its grace period


def test_null_and_unknown_fields_are_accepted(around: Sandbox, ended: Ended, marker: str) -> None:
    queued = around.producer.b2c(push=False)
    around.producer.push({**queued.message, "store_id": None, "new_field": {"a": 1}, "prompt": marker})
    assert ended(queued)["status"] == "completed"


@pytest.mark.parametrize("channel", ["b2c", "b2b"])
def test_a_message_with_the_wrong_owner_is_refused_and_the_real_owner_refunded(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str, channel: str
) -> None:
    queued = around.producer.b2c(push=False) if channel == "b2c" else around.producer.b2b(push=False)
    stranger = str(uuid4())
    owner = {"b2c": "user_id", "b2b": "store_id"}[channel]
    around.producer.push({**queued.message, owner: stranger, "prompt": marker})
    assert ended(queued)["status"] == "failed"
    assert around.balance_changes(queued.owner_id)[1:] == [-1, 1]
    assert dead_letters(around, named=queued.session_id)[0]["reason"] == "wrong_owner"
    assert around.calls(marker) == []
    assert not [path for path in around.objects() if stranger in path]


def test_a_request_id_that_can_be_written_nowhere_ends_its_own_session_only(
    around: Sandbox, worker: WorkerProcess, ended: Ended
) -> None:
    strange = around.producer.b2c(push=False)
    around.producer.push(json.dumps({**strange.message, "request_id": "\ud800"}))
    assert ended(strange)["status"] == "failed"
    assert around.balance_changes(strange.owner_id) == [10, -1, 1]
    assert ended(around.producer.b2c())["status"] == "completed"
    assert worker.process.poll() is None


def test_a_session_that_the_database_never_starts_is_failed_and_refunded_once(
    around: Sandbox, worker: WorkerProcess, ended: Ended
) -> None:
    queued = around.producer.b2c(push=False)
    around.database.execute(
        f"""
        create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no such start'; end $$;
        create trigger refuse before update on generation_sessions for each row
            when (new.status = 'processing' and new.id = '{queued.session_id}') execute function refuse()
        """
    )
    try:
        around.producer.push(queued.message)
        assert ended(queued)["status"] == "failed"
    finally:
        around.database.execute("drop function refuse cascade")
    assert around.balance_changes(queued.owner_id) == [10, -1, 1]
    assert worker.logs("generation_failing", reason="message_refused", session_id=queued.session_id)
