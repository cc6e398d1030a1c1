"""`wearon-worker enqueue` against a running worker, and a worker that reaches Redis over TLS."""

import subprocess
from pathlib import Path

import pytest

from tests import command
from tests.integration.conftest import QUICK, Ended
from tests.integration.worker_process import ROOT, WorkerProcess
from tests.sandbox import Sandbox
from tests.sandbox.proxy import Proxy

PICTURES = ROOT / "tests" / "sandbox" / "photos" / "pictures"


def enqueue(worker: WorkerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    pictures = ["--person", str(PICTURES / "person.jpg"), "--garment", str(PICTURES / "garment.jpg")]
    return command.run(worker.environment, "enqueue", *pictures, *arguments)


def test_enqueue_uploads_follows_and_saves_the_picture(around: Sandbox, worker: WorkerProcess, tmp_path: Path) -> None:
    user, picture = around.producer.user(), tmp_path / "result.jpg"
    consent = "--consent-version", "2026-11", "--age-verified"
    run = enqueue(worker, "--user", user, "--output", str(picture), *consent)
    assert run.returncode == 0, run.stderr
    for word in ("queued", "completed", "tokens", "USD", "/sign/"):
        assert word in run.stdout
    assert picture.read_bytes()[:3] == b"\xff\xd8\xff"
    assert around.balance(user) == 9
    told = around.database.value("select metadata from analytics_events where user_id = $1", user)
    assert (told["consent_version"], told["age_verified"]) == ("2026-11", True)


def test_enqueue_for_a_shopper_takes_the_shoppers_credit(around: Sandbox, worker: WorkerProcess) -> None:
    store = around.producer.store(5)
    email = around.producer.shopper(store, balance=2)
    run = enqueue(worker, "--store", store, "--shopper", email)
    assert run.returncode == 0, run.stderr
    assert (around.balance(store), around.balance(store, email)) == (5, 1)


def test_enqueue_says_what_supabase_refuses_and_what_to_do(around: Sandbox, worker: WorkerProcess) -> None:
    around.gateway.fault("project_paused", on="rpc/wearon_begin_session")
    run = enqueue(worker, "--user", around.producer.user())
    assert run.returncode == 1
    assert "the project is paused (540 Project paused); restore it in the Supabase dashboard" in run.stderr
    assert "Traceback" not in run.stderr


def test_enqueue_says_so_when_there_is_no_credit(around: Sandbox, worker: WorkerProcess) -> None:
    run = enqueue(worker, "--user", around.producer.user(0))
    assert run.returncode == 1
    assert "has no credit left" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--accessory", "https://photos.example/a.jpg"] * 15, "image_urls: List should have at most 16 items"),
        (["--prompt", "x" * 32_001], "prompt: String should have at most 32000 characters"),
    ],
)
def test_enqueue_takes_no_credit_for_what_no_message_can_carry(
    around: Sandbox, worker: WorkerProcess, arguments: list[str], problem: str
) -> None:
    user = around.producer.user()
    run = enqueue(worker, "--user", user, *arguments)
    assert run.returncode == 1
    assert f"not queued, no credit was spent: {problem}" in run.stderr
    assert "Traceback" not in run.stderr
    assert around.balance(user) == 10


def test_enqueue_says_where_the_picture_is_when_it_cannot_be_saved(around: Sandbox, worker: WorkerProcess) -> None:
    run = enqueue(worker, "--user", around.producer.user(), "--output", "/dev/full")
    assert run.returncode == 1
    assert "/dev/full cannot be written: No space left on device; the picture is at http" in run.stderr
    assert "Traceback" not in run.stderr


def test_enqueue_shows_why_it_failed(around: Sandbox, worker: WorkerProcess, marker: str) -> None:
    around.openai.fault("moderation_blocked", contains=marker)
    user = around.producer.user()
    run = enqueue(worker, "--user", user, "--prompt", marker)
    assert run.returncode == 1
    assert "content check" in run.stdout
    assert around.balance(user) == 10


def test_redis_over_tls_works_for_the_queue_and_for_celery(world: Sandbox, ended: Ended, marker: str) -> None:
    world.reset()
    with Proxy(world.valkey.port, tls=True) as proxy:
        secure = {"REDIS_URL": f"rediss://127.0.0.1:{proxy.port}/0", "SSL_CERT_FILE": str(proxy.ca_file)}
        with WorkerProcess(world, **QUICK, **secure):
            assert ended(world.producer.b2c(prompt=marker))["status"] == "completed"
