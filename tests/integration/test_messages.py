"""Messages that cannot be used: dead-lettered, their session settled when it can be read, and the consumer goes on."""

import base64
import json
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.conftest import Ended
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued

DEAD = "wearon:tasks:generation:dead"


@pytest.fixture(autouse=True)
def _empty_dead_letters(around: Sandbox) -> None:
    around.redis.delete(DEAD)


def dead_letters(around: Sandbox, count: int = 1) -> list[dict[str, Any]]:
    wait_for(
        lambda: around.redis.llen(DEAD) == count, 5, lambda: f"{around.redis.llen(DEAD)} dead letters, not {count}"
    )
    return [json.loads(letter) for letter in around.redis.lrange(DEAD, 0, -1)]


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


@pytest.mark.parametrize("changes", [{"channel": "b2x"}, {"channel": None}, {"session_id": "absent"}], ids=str)
def test_a_message_that_identifies_no_session_is_only_dead_lettered(around: Sandbox, changes: dict[str, Any]) -> None:
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
    assert dead_letters(around)[0]["reason"] == "wrong_owner"
    assert around.calls(marker) == []
    assert not [path for path in around.objects() if stranger in path]
