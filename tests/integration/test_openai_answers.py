"""What OpenAI can answer, and what becomes of the session, the credit and the number of calls."""

import pytest

from tests.integration.conftest import Ended
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued
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
    assert second.started - first.finished >= 1  # RATE_LIMIT_RETRY_SECONDS of these tests


def test_a_longer_retry_after_is_honoured(around: Sandbox, ended: Ended, marker: str) -> None:
    queued = queue_with(around, marker, "rate_limited", times=1, retry_after=3)
    assert ended(queued)["status"] == "completed"
    first, second = around.calls(marker)
    assert second.started - first.finished >= 3


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
        ("unauthorized", {}, errors.EditFailed.user_message),
        ("invalid_request", {}, errors.EditFailed.user_message),
        ("status", {"status": 418}, errors.EditFailed.user_message),
        ("status", {"status": 409}, errors.EditFailed.user_message),
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
        ("server_error", {"status": 502}),
        ("server_error", {"status": 503}),
        ("drop", {}),
    ],
)
def test_server_errors_and_broken_connections_are_retried_with_growing_delays_and_then_waited_for(
    around: Sandbox, ended: Ended, marker: str, kind: str, options: dict[str, object]
) -> None:
    queued = queue_with(around, marker, kind, times=3, **options)
    assert ended(queued)["status"] == "completed"
    assert around.statuses(queued.session_id) == ["queued", "processing", "queued", "processing", "completed"]
    starts = [call.started for call in around.calls(marker)]
    assert len(starts) == 4  # OPENAI_MAX_RETRIES of these tests is 2
    # With up to one second more, by chance, and whatever a busy machine takes.
    assert starts[1] - starts[0] >= 1
    assert starts[2] - starts[1] >= 2


def test_one_server_error_is_survived(around: Sandbox, ended: Ended, marker: str) -> None:
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


def test_exhausted_quota_fails_nobody_pauses_the_intake_and_goes_on_by_itself(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str
) -> None:
    queued = queue_with(around, marker, "insufficient_quota", times=2)

    def waits() -> bool:
        health = worker.health()
        # It is put back a moment after the pause has begun.
        put_back = around.session("b2c", queued.session_id)["status"] == "queued"
        return put_back and (health["intake_paused"], health["status"]) == ("quota_exhausted", "degraded")

    wait_for(waits, 5, lambda: f"{worker.health()}, {around.statuses(queued.session_id)}")
    assert ended(queued)["status"] == "completed"
    assert around.balance_changes(queued.owner_id) == [10, -1]
    assert worker.logs("generation_postponed", reason="quota_exhausted", session_id=queued.session_id)


def test_messages_to_users_name_no_technology() -> None:
    for sentence in SENTENCES:
        assert sentence.endswith(".")
        for word in ("http", "OpenAI", "Error", "Exception", "429", "500", "None", "Redis", "Supabase", "{"):
            assert word not in sentence


class TestModelShutDown:
    """The worker stays with the fallback until it starts again."""

    def test_generations_go_on_with_the_fallback_model(
        self, around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str
    ) -> None:
        around.openai.fault("model_not_found", model="gpt-image-1.5")
        rows = [ended(queued) for queued in [around.producer.b2c(prompt=marker) for _ in range(3)]]
        assert [row["status"] for row in rows] == ["completed"] * 3
        assert {call.model for call in around.calls(marker) if call.status == 200} == {"gpt-image-2.6-sunburst"}
        assert len(worker.logs("openai_model_fallback_used")) == 1
        assert worker.stop() == 0
        worker.start()  # side by side no test is the last one
