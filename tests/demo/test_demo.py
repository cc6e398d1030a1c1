"""The demo with `--keep`, as in a terminal that is closed."""

import json
import os
import shlex
import signal
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import psutil
import redis

from tests.integration.worker_process import ROOT, wait_for
from tests.sandbox.database import Database
from tests.sandbox.processes import end, heeded, spawn, wait_until
from tests.sandbox.producer import QUEUE, Producer


def test_the_demo_waits_for_its_message_and_leaves_nothing_behind(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    command = [sys.executable, "-m", "tests.demo", "--keep", "--latency", "0.1", "--output", str(tmp_path)]
    with heeded(signal.SIGHUP):
        process = spawn(command, log=log, env={**os.environ, "SWEEP_INTERVAL_SECONDS": "0.2"}, cwd=ROOT)
    try:
        wait_until(lambda: "LPUSH" in log.read_text() and log.read_text().endswith("\n"), process, log, 60)
        printed = dict(line.split(maxsplit=1) for line in log.read_text().splitlines() if len(line.split()) > 1)
        message = shlex.split(printed["redis-cli"])[-1]
        with Database(printed["Postgres"]) as database, redis.Redis.from_url(printed["Redis"]) as queue:
            waiting = json.loads(message)["session_id"]
            forgotten = Producer(database, queue, ["https://photos.example/1.jpg"] * 2).b2c(push=False).session_id
            _set_age(database, waiting, hours=23)
            _set_age(database, forgotten, hours=25)
            wait_for(lambda: _status(database, forgotten) == "failed", 20, "it was not swept")
            assert _status(database, waiting) == "queued"
            queue.lpush(QUEUE, message)
            wait_for(lambda: _status(database, waiting) == "completed", 20, "its message was of no use")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(_folders(process.pid)) == 1
        process.send_signal(signal.SIGHUP)  # a closed terminal sends it twice
    finally:
        end(process, signal.SIGHUP, 60)
    assert process.returncode == 0
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert _folders(process.pid) == []


def _set_age(database: Database, session_id: str, hours: int) -> None:
    age = timedelta(hours=hours)
    database.execute("update generation_sessions set created_at = now() - $2::interval where id = $1", session_id, age)


def _status(database: Database, session_id: str) -> str:
    return str(database.value("select status from generation_sessions where id = $1", session_id))


def _folders(pid: int) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"wearon-sandbox-{pid}-*"))
