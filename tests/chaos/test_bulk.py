"""Manifests whose command is killed and never repeated: no credit stays taken without a picture."""

import random
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.books import audit
from tests.chaos.load import report
from tests.chaos.worker import Worker
from tests.integration.test_bulk_commands import manifest, spent, start, without_session
from tests.integration.worker_process import ENDED, wait_for
from tests.sandbox import Sandbox

MANIFESTS, ROWS = 12, 150
BEGIN = {"on": "rpc/wearon_bulk_begin"}
SETTINGS = {"WORKER_CONCURRENCY": "20", "BULK_SHARE": "1", "MESSAGE_TTL_SECONDS": "5", "MESSAGE_TTL_MAX_SECONDS": "10"}


@pytest.mark.chaos_full
@pytest.mark.timeout(600)
def test_killed_submissions_that_are_not_repeated_leave_no_credit_taken(sandbox: Sandbox, tmp_path: Path) -> None:
    chance, credits = random.Random(1), MANIFESTS * ROWS
    store = sandbox.producer.store(credits)
    path = manifest(sandbox, tmp_path, ROWS)
    for number in range(MANIFESTS):
        sandbox.gateway.fault(**BEGIN, kind=chance.choice(["slow", "drop_after"]), delay=chance.uniform(0, 0.2))
        _submit_and_kill(sandbox, store, path, f"m{number}", chance.uniform(0, 0.5))
        assert without_session(sandbox, store) == 0
        sandbox.gateway.clear()
    with Worker(sandbox, **SETTINGS) as worker:
        wait_for(lambda: all(_statuses(sandbox, store)[it] == 0 for it in ("queued", "processing")), 300, "open ones")
        assert worker.stop() == 0
    ends, ledger = _statuses(sandbox, store), spent(sandbox, store)
    assert set(ends) <= set(ENDED)
    assert (ledger["deduction"], ledger["refund"]) == (ends.total(), ends["failed"])
    assert sandbox.balance(store) == credits - ends["completed"]
    audit(sandbox)
    assert ends["completed"]
    assert ends["failed"]
    report(f"{MANIFESTS} manifests of {ROWS} rows, each killed once", dict(ends))


def _submit_and_kill(sandbox: Sandbox, store: str, path: str, name: str, seconds: float) -> None:
    process = start(sandbox, "bulk", "submit", path, "--store", store, "--id", name, "--yes")
    wait_for(lambda: sandbox.redis.exists(f"wearon:bulk:{name}"), 60, f"manifest {name} is not known")
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


def _statuses(sandbox: Sandbox, store: str) -> Counter[str]:
    rows = sandbox.database.fetch("select status from store_generation_sessions where store_id = $1", store)
    return Counter(row["status"] for row in rows)
