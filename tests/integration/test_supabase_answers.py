"""The worker with every kind of key, and with functions of another version than its own."""

import pytest

from tests.integration.conftest import QUICK, Ended
from tests.integration.worker_process import WorkerProcess
from tests.sandbox import Sandbox
from worker.generation.supabase.installed import MIGRATION_VERSION, SIGNATURES

CHECK = "rpc/wearon_worker_functions"


@pytest.fixture
def apart(world: Sandbox) -> Sandbox:
    """The sandbox for workers that a test starts itself."""
    world.reset()
    return world


@pytest.mark.parametrize("key", ["service_key", "secret_key"])
def test_a_generation_completes_with_both_kinds_of_key(apart: Sandbox, ended: Ended, key: str) -> None:
    with WorkerProcess(apart, **QUICK, SUPABASE_SERVICE_ROLE_KEY=getattr(apart, key)) as worker:
        queued = apart.producer.b2c()
        assert ended(queued)["status"] == "completed"
        assert getattr(apart, key) not in worker.output()
    assert [stored.content_type for stored in apart.objects().values()] == ["image/jpeg"]


@pytest.mark.parametrize("key", ["anon_key", "publishable_key"])
def test_a_start_with_a_key_of_the_wrong_kind_is_one_line_that_names_the_variable(apart: Sandbox, key: str) -> None:
    worker = WorkerProcess(apart, SUPABASE_SERVICE_ROLE_KEY=getattr(apart, key)).start(ready=False)
    assert worker.wait(30) == 1
    assert "SUPABASE_SERVICE_ROLE_KEY is invalid: it is a " in worker.output()
    assert "sb_secret_..." in worker.output()
    assert getattr(apart, key) not in worker.output()
    assert "Traceback" not in worker.output()


def test_newer_functions_are_named_once_and_what_they_answer_fails_no_session(apart: Sandbox, ended: Ended) -> None:
    functions = {name: f"{sent}, p_new text" for name, sent in SIGNATURES.items()}
    apart.gateway.fault("replaced", on=CHECK, body={"version": 99, "functions": functions})
    apart.gateway.fault("replaced", on="rpc/start_generation", body={"changed": True, "attempt": 1})
    apart.gateway.fault("replaced", on="rpc/complete_generation", body={"changed": True, "status": "completed", "n": 0})
    with WorkerProcess(apart, **QUICK) as worker:
        queued = [apart.producer.b2c(), apart.producer.b2b()]
        assert [ended(each)["status"] for each in queued] == ["completed", "completed"]
        assert [line["installed_version"] for line in worker.logs("functions_newer")] == [99]
        assert worker.logs("generation_failing") == []


def test_older_functions_end_the_start_with_the_way_to_install_them(apart: Sandbox) -> None:
    apart.gateway.fault("replaced", on=CHECK, body={"version": MIGRATION_VERSION - 1, "functions": SIGNATURES})
    worker = WorkerProcess(apart).start(ready=False)
    assert worker.wait(30) == 1
    assert "Install them with: psql" in worker.logs("worker_ended")[0]["reason"]


def test_a_schema_that_is_stale_right_after_the_migration_is_waited_for(apart: Sandbox) -> None:
    apart.gateway.fault("schema_stale", on=CHECK, times=3)
    with WorkerProcess(apart, **QUICK) as worker:
        assert worker.health()["status"] == "ok"
