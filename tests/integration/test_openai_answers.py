"""The answers of OpenAI, and their effect on the session, the credit and the number of calls.

Every answer and its meaning: tests/worker/generation/openai/test_answers.py. Here an effect that takes seconds has one
answer of each form.
"""

import pytest

from tests.integration.conftest import Ended
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued
from tests.sandbox.remote import ReceivedCall
from worker import errors

SENTENCES = {
    kind.user_message
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.GenerationError)
}


def queue_with(around: Sandbox, marker: str, kind: str, **rule: object) -> Queued:
    around.openai.fault(kind, contains=marker, **rule)
    return around.producer.b2c(prompt=marker)


def assert_failed_and_refunded(around: Sandbox, queued: Queued, row: dict[str, object]) -> None:
    assert row["status"] == "failed"
    assert row["error_message"] in SENTENCES
    assert row["completed_at"] is not None
    assert around.balance_changes(queued.owner_id) == [10, -1, 1]


def test_a_first_429_puts_the_session_back_and_the_second_call_completes_it(
    around: Sandbox, ended: Ended, marker: str
) -> None:
    queued = queue_with(around, marker, "rate_limited", times=1)
    row = ended(queued)
    assert around.statuses(queued.session_id) == ["queued", "processing", "queued", "processing", "completed"]
    assert row["error_message"] is None
    assert around.balance_changes(queued.owner_id) == [10, -1]
    first, second = around.calls(marker)
    assert pause_between(first, second) >= 1  # RATE_LIMIT_RETRY_SECONDS of these tests


def pause_between(first: ReceivedCall, second: ReceivedCall) -> float:
    assert first.finished
    return second.started - first.finished


def test_a_longer_retry_after_is_honoured(around: Sandbox, ended: Ended, marker: str) -> None:
    queued = queue_with(around, marker, "rate_limited", times=1, retry_after=3)
    assert ended(queued)["status"] == "completed"
    first, second = around.calls(marker)
    assert pause_between(first, second) >= 3


def test_a_second_429_fails_the_session_with_one_refund(around: Sandbox, ended: Ended, marker: str) -> None:
    queued = queue_with(around, marker, "rate_limited", times=2)
    row = ended(queued)
    assert_failed_and_refunded(around, queued, row)
    assert row["error_message"] == errors.RateLimited.user_message
    assert len(around.calls(marker)) == 2


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("moderation_blocked", {}, errors.ModerationBlocked.user_message),
        ("moderation_without_code", {}, errors.ModerationBlocked.user_message),
        ("content_policy_violation", {}, errors.ModerationBlocked.user_message),
        ("invalid_image_file", {}, errors.ImageError.user_message),
        ("invalid_request", {}, errors.EditFailed.user_message),
        ("status", {"status": 418}, errors.EditFailed.user_message),
        ("unknown_parameter", {}, errors.EditFailed.user_message),
        # Gone, it says, and GET /models/{id} that it lives.
        ("model_value_must_be", {"on": "images/edits"}, errors.EditFailed.user_message),
        ("garbage", {}, errors.EditFailed.user_message),
        ("empty", {}, errors.EditFailed.user_message),
        ("not_base64", {}, errors.EditFailed.user_message),
        ("not_image", {}, errors.EditFailed.user_message),
        ("truncated", {}, errors.EditFailed.user_message),
    ],
)
def test_a_final_answer_fails_the_session_at_once_with_one_call_and_one_refund(
    around: Sandbox, ended: Ended, marker: str, kind: str, options: dict[str, object], sentence: str
) -> None:
    queued = queue_with(around, marker, kind, **options)
    row = ended(queued, 5)
    assert_failed_and_refunded(around, queued, row)
    assert row["error_message"] == sentence
    assert len(around.calls(marker)) == 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("server_error", {"status": 500}),
        ("html", {"status": 403}),
        ("drop", {}),
    ],
)
def test_passing_errors_are_retried_with_growing_delays_and_then_fail_nobody(
    around: Sandbox, ended: Ended, marker: str, kind: str, options: dict[str, object]
) -> None:
    ended(around.producer.b2c())  # OpenAI serves others: the breaker stays closed
    queued = queue_with(around, marker, kind, times=3, **options)
    assert ended(queued)["status"] == "completed"
    starts = [call.started for call in around.calls(marker)]
    assert len(starts) == 4  # OPENAI_MAX_RETRIES of these tests is 2
    # With up to one second more, by chance, and whatever a busy machine takes.
    assert starts[1] - starts[0] >= 1
    assert starts[2] - starts[1] >= 2
    assert around.statuses(queued.session_id) == ["queued", "processing", "queued", "processing", "completed"]
    assert around.balance_changes(queued.owner_id) == [10, -1]


def test_one_server_error_is_survived(around: Sandbox, ended: Ended, marker: str) -> None:
    ended(around.producer.b2c())
    queued = queue_with(around, marker, "server_error", status=500, times=1)
    assert ended(queued)["status"] == "completed"
    assert around.statuses(queued.session_id) == ["queued", "processing", "completed"]


def test_a_png_answer_is_stored_as_jpeg(around: Sandbox, ended: Ended, marker: str) -> None:
    queued = queue_with(around, marker, "png")
    assert ended(queued)["status"] == "completed"
    stored = around.objects()[f"generated/{queued.owner_id}/{queued.session_id}.jpg"]
    assert stored.data[:3] == b"\xff\xd8\xff"


def test_a_call_that_is_never_answered_ends_at_the_deadline(around: Sandbox, ended: Ended, marker: str) -> None:
    queued = queue_with(around, marker, "hang")
    row = ended(queued, 20)
    assert_failed_and_refunded(around, queued, row)
    assert row["error_message"] == errors.DeadlineExceeded.user_message
    assert 12_000 <= row["processing_time_ms"] < 14_000  # GENERATION_TIMEOUT_SECONDS of these tests
    ended(around.producer.b2c())  # the probe that ends the breaker's pause


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("insufficient_quota", "quota_exhausted"),
        ("billing_hard_limit_reached", "quota_exhausted"),
        ("unauthorized", "openai_unauthorized"),
    ],
)
def test_an_answer_about_the_account_fails_nobody_pauses_the_intake_and_goes_on_by_itself(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str, kind: str, reason: str
) -> None:
    queued = queue_with(around, marker, kind, times=2)

    def waits() -> bool:
        health = worker.health()
        # It is put back a moment after the pause has begun.
        put_back = around.session("b2c", queued.session_id)["status"] == "queued"
        return put_back and (health["intake_paused"], health["status"]) == (reason, "degraded")

    wait_for(waits, 5, lambda: f"{worker.health()}, {around.statuses(queued.session_id)}")
    assert ended(queued)["status"] == "completed"
    assert around.balance_changes(queued.owner_id) == [10, -1]
    assert "sk-" not in worker.output()


@pytest.mark.parametrize("kind", ["unknown_parameter", "organization_unverified"])
def test_openais_own_sentence_is_in_the_log(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str, kind: str
) -> None:
    queued = queue_with(around, marker, kind, times=1)
    ended(queued)
    words = {"unknown_parameter": "Unknown parameter: 'output_format'.", "organization_unverified": "must be verified"}
    details = [line.get("detail", "") for line in worker.logs(session_id=queued.session_id)]
    assert any(words[kind] in detail for detail in details)


@pytest.mark.parametrize("usage", [{}, None, {"input_tokens": 10, "output_tokens": 20}, {"output_tokens": "many"}])
def test_a_paid_picture_with_an_odd_usage_block_is_delivered(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str, usage: object
) -> None:
    row = ended(queue_with(around, marker, "odd_usage", usage=usage))
    assert row["status"] == "completed"
    known = (10, 20) if usage and "input_tokens" in str(usage) else (None, None)
    assert (row["input_tokens"], row["output_tokens"], row["estimated_cost_usd"]) == (*known, None)
    assert len(worker.logs("openai_usage_incomplete")) == 1


def test_messages_to_users_name_no_technology() -> None:
    for sentence in SENTENCES:
        assert sentence.endswith(".")
        for word in ("http", "OpenAI", "Error", "Exception", "429", "500", "None", "Redis", "Supabase", "{"):
            assert word not in sentence


def test_generations_go_on_with_the_fallback_model_when_the_first_is_shut_down(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str
) -> None:
    """The worker stays with the fallback until it starts again."""
    assert worker.stop() == 0
    before = len(around.openai.lookups())
    worker.start()
    looked = before + 2
    wait_for(lambda: len(around.openai.lookups()) == looked, 5, "models are not looked at when the worker starts")
    said = len(worker.logs("openai_model_fallback_used"))
    around.openai.set(shut_down={"gpt-image-2.6-sunburst": "model_not_found"})
    try:
        rows = [ended(queued) for queued in [around.producer.b2c(prompt=marker) for _ in range(3)]]
    finally:
        around.openai.set(shut_down={})
    assert [row["status"] for row in rows] == ["completed"] * 3
    assert {call.model for call in around.calls(marker) if call.status == 200} == {"gpt-image-2.6-flare"}
    assert around.openai.lookups()[looked:] == ["gpt-image-2.6-sunburst"]
    assert len(worker.logs("openai_model_fallback_used")) == said + 1
    assert worker.stop() == 0
    worker.start()  # side by side no test is the last one
