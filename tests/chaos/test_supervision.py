"""The container ends with a reason when a part dies or hangs, and waits for what is only away."""

import os
import signal
import time

import httpx
import pytest

from tests.chaos.books import balance
from tests.chaos.load import Load, ended, reached
from tests.chaos.worker import Worker, gone
from tests.integration.worker_process import wait_for
from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from tests.sandbox.sandbox import MIGRATION


def ready(worker: Worker) -> int:
    """Status of GET /ready, 0 while nothing listens."""
    try:
        return HTTP.get(f"{worker.url}/ready", timeout=5).status_code
    except httpx.HTTPError:
        return 0


def test_neither_process_outlives_the_other_and_the_next_worker_settles(sandbox: Sandbox, load: Load) -> None:
    sandbox.openai.set(latency=1)
    with Worker(sandbox) as worker:
        reached(sandbox, load.many(12), "processing", 8)
        os.kill(worker.pool, signal.SIGKILL)
        assert worker.wait(10) == 1
        assert worker.reason() == "celery ended: signal SIGKILL"
        worker.start()
        reached(sandbox, load.many(12), "processing", 8)
        pool = worker.pool
        os.kill(pool, signal.SIGSTOP)  # a pool that hangs does not see that its link has ended
        worker.signal(signal.SIGKILL)  # the supervisor alone
        wait_for(lambda: gone(pool), 5, "the pool goes on without its supervisor")
        worker.wait()
        worker.start()
        ended(sandbox, load.all, 30)
    balance(sandbox, load.all)


@pytest.mark.chaos_full
def test_a_pool_that_hangs_ends_the_container(sandbox: Sandbox, load: Load) -> None:
    sandbox.openai.set(latency=1)
    with Worker(sandbox) as worker:
        load.many(12)
        reached(sandbox, load.all, "processing", 8)
        os.kill(worker.pool, signal.SIGSTOP)
        begun = time.monotonic()
        assert worker.wait(60) == 1
        assert 25 < time.monotonic() - begun < 45
        assert worker.reason() == "no heartbeat of celery"
        worker.start()
        ended(sandbox, load.all, 30)
    balance(sandbox, load.all)


def test_a_start_without_the_sql_functions_names_them_and_the_command(sandbox: Sandbox) -> None:
    sandbox.database.execute("drop function fail_generation; drop function start_generation; notify pgrst")
    try:
        with_functions_missing = Worker(sandbox).start(ready=False)
        try:
            assert with_functions_missing.wait(60) == 1
        finally:
            with_functions_missing.kill()
    finally:
        sandbox.database.apply(MIGRATION)
    reason = with_functions_missing.reason()
    assert "fail_generation, start_generation" in reason
    assert f'psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f {MIGRATION}' in reason
    assert "Traceback" not in with_functions_missing.output()


def test_a_start_waits_for_redis_and_for_supabase_and_answers_health_meanwhile(sandbox: Sandbox, load: Load) -> None:
    load.many(5)
    sandbox.valkey.stop()
    away = sandbox.gateway.fault("unavailable")
    worker = Worker(sandbox).start(ready=False)
    try:
        wait_for(lambda: ready(worker) == 503, 60, "/ready does not say 503")
        _stays_unready(worker, redis_connected=False)
        sandbox.valkey.start()
        wait_for(lambda: worker.health()["redis_connected"], 60, "Redis is not found again")
        _stays_unready(worker, database_connected=False)
        sandbox.gateway.clear(away)
        wait_for(lambda: ready(worker) == 200, 60, "not ready")
        ended(sandbox, load.all, 20)
        assert worker.stop() == 0
    finally:
        worker.kill()
    assert balance(sandbox, load.all).completed == 5


def _stays_unready(worker: Worker, **health: bool) -> None:
    until = time.monotonic() + 1
    while time.monotonic() < until:
        assert ready(worker) == 503
        begun = time.monotonic()
        found = worker.health()
        assert time.monotonic() - begun < 1
        assert found["status"] == "degraded"
        assert {key: found[key] for key in health} == health
        time.sleep(0.2)


def test_sigterm_while_it_waits_at_the_start_ends_it_in_order(sandbox: Sandbox) -> None:
    sandbox.gateway.fault("unavailable")
    worker = Worker(sandbox).start(ready=False)
    try:
        wait_for(lambda: ready(worker) == 503, 60, "/ready does not say 503")
        assert worker.stop(20) == 0
    finally:
        worker.kill()
