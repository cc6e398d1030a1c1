"""A queued try-on becomes a stored picture, for each of the three who can pay."""

import base64
import io
import json
from decimal import Decimal

import pytest
from PIL import Image

from tests.integration.conftest import Ended
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from tests.sandbox.producer import Queued
from worker.generation.celery.app import TASK, create_app
from worker.settings import load


def queue(sandbox: Sandbox, payer: str, prompt: str) -> Queued:
    if payer == "user":
        return sandbox.producer.b2c(prompt=prompt)
    store = sandbox.producer.store()
    email = sandbox.producer.shopper(store) if payer in ("shopper", "store for a shopper") else None
    paid_by = payer if payer in ("shopper", "overage") else "store"
    return sandbox.producer.b2b(store, paid_by=paid_by, shopper_email=email, prompt=prompt)


def result_path(queued: Queued) -> str:
    folder = "generated/{}" if queued.channel == "b2c" else "stores/{}/generated"
    return f"{folder.format(queued.owner_id)}/{queued.session_id}.jpg"


@pytest.mark.parametrize("payer", ["user", "store", "shopper", "store for a shopper", "overage"])
def test_a_queued_try_on_is_completed_and_costs_one_credit(
    around: Sandbox, ended: Ended, marker: str, payer: str
) -> None:
    queued = queue(around, payer, marker)
    row = ended(queued)
    assert row["status"] == "completed"
    assert around.statuses(queued.session_id) == ["queued", "processing", "completed"]
    assert [entry["type"] for entry in around.ledger(queued.owner_id)].count("refund") == 0
    assert (
        sum(change for change in around.balance_changes(queued.owner_id) if change < 0) == (-1, 0)[payer == "overage"]
    )


@pytest.mark.parametrize("payer", ["user", "store"])
def test_the_picture_lies_at_the_contracts_path_as_jpeg(around: Sandbox, ended: Ended, marker: str, payer: str) -> None:
    queued = queue(around, payer, marker)
    ended(queued)
    stored = around.objects()[result_path(queued)]
    assert stored.content_type == "image/jpeg"
    with Image.open(io.BytesIO(stored.data)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (1024, 1536))


def test_the_signed_url_shows_the_picture_for_six_hours(around: Sandbox, ended: Ended, marker: str) -> None:
    queued = around.producer.b2c(prompt=marker)
    row = ended(queued)
    answer = HTTP.get(row["generated_image_url"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    claims = row["generated_image_url"].split("token=")[1].split(".")[1]
    expiry = json.loads(base64.urlsafe_b64decode(claims + "=="))["exp"]
    assert expiry - row["completed_at"].timestamp() == pytest.approx(6 * 3600, abs=30)


def test_usage_cost_and_times_are_written(around: Sandbox, ended: Ended, marker: str) -> None:
    row = ended(around.producer.b2c(prompt=marker))
    assert row["input_tokens"] > 0
    assert row["output_tokens"] > 0
    assert Decimal("0.01") < row["estimated_cost_usd"] < Decimal("0.2")
    assert 0 < row["processing_time_ms"] < 10_000
    assert row["completed_at"] > row["created_at"]
    assert row["error_message"] is None


def test_openai_gets_the_contracts_parameters_and_the_pictures_in_order(
    around: Sandbox, ended: Ended, marker: str
) -> None:
    names = ["person.jpg", "garment.jpg", "hat.jpg"]
    queued = around.producer.b2c(prompt=marker, images=[around.photos.url(name) for name in names])
    ended(queued)
    (call,) = around.calls(marker)
    assert call.model == "gpt-image-2.6-sunburst"
    assert call.parameters["quality"] == "medium"
    assert call.parameters["size"] == "1024x1536"
    assert call.parameters["output_format"] == "jpeg"
    assert {image.field for image in call.images} == {"image[]"}
    sent = [Image.open(io.BytesIO(image.data)).size for image in call.images]
    given = [Image.open(io.BytesIO(HTTP.get(around.photos.url(name)).content)).size for name in names]
    assert sent == given


def test_an_empty_prompt_becomes_the_workers_own(around: Sandbox, ended: Ended) -> None:
    before = len(around.calls("Virtual try-on"))
    ended(around.producer.b2c(prompt=""))
    assert len(around.calls("Virtual try-on")) == before + 1


def test_the_same_message_twice_at_once_is_one_call_and_no_refund(around: Sandbox, ended: Ended, marker: str) -> None:
    around.openai.set(latency=0.5)
    queued = around.producer.b2c(prompt=marker)
    around.producer.push(queued.message)
    row = ended(queued)
    around.openai.set(latency=0)
    wait_for(lambda: around.redis.llen("wearon:tasks:generation") == 0, 5, "the duplicate is still queued")
    assert row["status"] == "completed"
    assert len(around.calls(marker)) == 1
    assert around.balance_changes(queued.owner_id) == [10, -1]


def test_a_message_that_celery_has_twice_stays_claimed_until_its_generation_has_ended(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery's client sends the message once more when the answer of Redis is lost."""
    for name, value in around.env().items():
        monkeypatch.setenv(name, value)
    around.openai.set(latency=3)
    queued = around.producer.b2c(prompt=marker)
    (instance,) = around.redis.smembers("wearon:instances")
    claimed = f"wearon:claimed:{instance}"
    wait_for(lambda: around.calls(marker), 10, "its generation does not start")
    (payload,) = around.redis.lrange(claimed, 0, -1)
    create_app(load(), instance).send_task(TASK, [payload, ""])
    wait_for(lambda: worker.logs("duplicate_dropped", session_id=queued.session_id), 5, "the copy was not dropped")
    assert around.redis.lrange(claimed, 0, -1) == [payload]
    around.openai.set(latency=0)
    assert ended(queued)["status"] == "completed"
    wait_for(lambda: not around.redis.exists(claimed), 5, "its claim is left")


def test_the_same_message_after_completion_changes_nothing(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str
) -> None:
    queued = around.producer.b2c(prompt=marker)
    row = ended(queued)
    # Until then the message is a duplicate of a generation that still runs.
    wait_for(lambda: not around.redis.exists(f"wearon:lease:{queued.session_id}"), 5, "its lease is kept")
    around.producer.push(queued.message)
    wait_for(lambda: worker.logs("message_dropped", session_id=queued.session_id), 5, "the duplicate was not dropped")
    assert dict(around.session("b2c", queued.session_id)) == row
    assert len(around.calls(marker)) == 1


@pytest.mark.parametrize("status", ["failed", "unknown"])
def test_a_session_that_is_failed_or_unknown_is_left_alone(
    around: Sandbox, worker: WorkerProcess, marker: str, status: str
) -> None:
    queued = around.producer.b2c(prompt=marker, push=False)
    change = (
        "update generation_sessions set status = 'failed'" if status == "failed" else "delete from generation_sessions"
    )
    around.database.execute(f"{change} where id = $1", queued.session_id)
    around.producer.push(queued.message)
    wait_for(lambda: worker.logs("message_dropped", session_id=queued.session_id), 5, "the message was not dropped")
    assert around.calls(marker) == []
    assert around.balance_changes(queued.owner_id) == [10, -1]
