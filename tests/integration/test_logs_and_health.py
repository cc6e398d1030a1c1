"""What an operator sees: log lines and the health of the container."""

import json
import time

import httpx
import pytest

from tests.integration.conftest import Ended
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox


def test_every_line_is_json_with_time_level_event_and_service(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str
) -> None:
    ended(around.producer.b2c(prompt=marker))
    lines = worker.output().splitlines()
    assert lines
    for line in lines:
        assert {"timestamp", "level", "event", "service", "part"} <= json.loads(line).keys(), line


def test_every_line_of_a_generation_has_its_correlation_id(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str
) -> None:
    queued = around.producer.b2c(prompt=marker)
    ended(queued)
    wait_for(lambda: worker.logs("generation_ended", session_id=queued.session_id), 5, "it did not end in the log")
    lines = worker.logs(session_id=queued.session_id)
    assert {line["request_id"] for line in lines} == {queued.request_id}
    assert {line["part"] for line in lines} == {"supervisor", "celery"}


@pytest.mark.parametrize("fault", ["none", "unauthorized", "not_image"])
def test_no_secret_prompt_address_or_signed_url_is_logged(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str, fault: str
) -> None:
    if fault != "none":
        around.openai.fault(fault, contains=marker)
    store = around.producer.store()
    email = around.producer.shopper(store, "secret.person@example.com")
    photo = around.photos.put("signed.jpg", b"no picture", content_type="image/jpeg") + "?token=secret-token"
    images = [around.photos.url("person.jpg"), *([photo] if fault == "none" else [])]
    queued = around.producer.b2b(store, paid_by="shopper", shopper_email=email, prompt=marker, images=images)
    ended(queued)
    for secret in (around.service_key, around.openai_key, marker, "secret.person", "secret-token", "token=ey"):
        assert secret not in worker.output()


def test_health_answers_in_under_200_ms_while_generations_run(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str
) -> None:
    around.openai.set(latency=0.5)
    sessions = [around.producer.b2c(prompt=marker) for _ in range(15)]
    durations = []
    with httpx.Client(base_url=worker.url) as client:
        while time.sleep(0.05) is None and len(durations) < 40:
            begun = time.monotonic()
            assert client.get("/health").status_code == 200
            durations.append(time.monotonic() - begun)
    around.openai.set(latency=0)
    assert sorted(durations)[-2] < 0.2
    assert {ended(queued)["status"] for queued in sessions} == {"completed"}


def test_health_says_ok_and_shows_each_part(around: Sandbox, worker: WorkerProcess) -> None:
    health = wait_for(lambda: worker.health()["status"] == "ok" and worker.health(), 10, lambda: str(worker.health()))
    assert health["redis_connected"] is True
    assert health["model_loaded"] is True
    assert {"celery", "consumer", "sweeper"} <= health["parts"].keys()
