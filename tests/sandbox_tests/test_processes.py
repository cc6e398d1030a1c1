"""Life and death of the servers."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.integration.worker_process import ROOT
from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from tests.sandbox.processes import end, heeded, spawn, wait_until
from tests.sandbox.proxy import Proxy

#: Starts a worker in a thread that ends, and prints the ids of its processes.
WORKER = """
import signal, threading
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
with Sandbox() as sandbox:
    worker = WorkerProcess(sandbox)
    thread = threading.Thread(target=worker.start, kwargs={"ready": False})
    thread.start()
    thread.join()
    wait_for(worker.is_ready, 60, worker.output)
    print(worker.process.pid, *worker.children(), flush=True)
    signal.pause()
"""


def test_a_reset_is_complete_and_fast(sandbox: Sandbox) -> None:
    sandbox.producer.b2c()
    sandbox.openai.fault("hang")
    sandbox.gateway.fault("hang")
    sandbox.photos.put("a.jpg", b"x")
    sandbox.valkey.stop()
    started = time.monotonic()
    sandbox.reset()

    assert time.monotonic() - started < 1
    assert sandbox.ledger() == []
    assert sandbox.redis.dbsize() == 0
    assert sandbox.openai.faults() == sandbox.gateway.faults() == []
    assert HTTP.get(sandbox.photos.url("a.jpg")).status_code == 404


def test_a_forwarder_cuts_refuses_and_stalls(sandbox: Sandbox) -> None:
    with Proxy(sandbox.valkey.port) as proxy:
        client = redis.Redis(port=proxy.port, socket_timeout=1, retry=Retry(NoBackoff(), 0))
        assert client.ping()
        with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(16) == b"+PONG\r\n"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                connection.recv(16)
        proxy.stall()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        proxy.refuse()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        proxy.start()
        assert client.ping()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_valkey_comes_back_with_port_and_data(sandbox: Sandbox, how: str) -> None:
    sandbox.redis.lpush("list", "a")
    if how == "kill":
        assert sandbox.redis.execute_command("WAITAOF", 1, 0, 10_000)[0] == 1  # else it may lose the last seconds
    getattr(sandbox.valkey, how)()
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(sandbox.redis_url, retry=None).ping()
    # From a thread that ends: the server has to live on.
    restart = threading.Thread(target=sandbox.valkey.start)
    restart.start()
    restart.join()
    time.sleep(0.1)
    assert sandbox.redis.lrange("list", 0, -1) == ["a"]


def test_a_running_sandbox_is_not_started_again(sandbox: Sandbox) -> None:
    folder = sandbox.folder
    with pytest.raises(RuntimeError, match="runs already"):
        sandbox.start()
    assert sandbox.folder == folder
    assert sandbox.redis.ping()


def test_a_process_runs_on_the_cores_of_the_thread_that_starts_it(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    for core in before:
        os.sched_setaffinity(0, {core})
        try:
            process = spawn(["/bin/sleep", "60"], log=tmp_path / "sleep.log")
        finally:
            os.sched_setaffinity(0, before)
        assert os.sched_getaffinity(process.pid) == {core}
        end(process)


def test_valkey_can_freeze(sandbox: Sandbox) -> None:
    impatient = redis.Redis.from_url(sandbox.redis_url, socket_timeout=0.2, retry=None)
    sandbox.valkey.pause()
    with pytest.raises(redis.TimeoutError):
        impatient.ping()
    sandbox.valkey.resume()
    assert sandbox.redis.ping()


def test_tls_is_spoken_in_front_of_valkey(sandbox: Sandbox) -> None:
    with Proxy(sandbox.valkey.port, tls=True) as proxy:
        url = f"rediss://localhost:{proxy.port}/0?ssl_ca_certs={proxy.ca_file}"
        assert redis.Redis.from_url(url).ping()
        with pytest.raises(redis.ConnectionError):
            redis.Redis.from_url(f"rediss://localhost:{proxy.port}/0", retry=None).ping()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_server_outlives_the_command(how: signal.Signals) -> None:
    command = [sys.executable, "-m", "tests.sandbox", "--json"]
    with heeded(signal.SIGINT):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout
        started = json.loads(process.stdout.readline())
        pids = list(started["pids"].values())
        assert len(pids) == 3
        assert all(psutil.pid_exists(pid) for pid in pids)
        os.kill(process.pid, how)
        assert process.wait(20) == (-how if how == signal.SIGKILL else 0)
    assert _left(pids) == []


def test_no_worker_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    process = spawn([sys.executable, "-c", WORKER], log=log, cwd=ROOT)
    try:
        wait_until(lambda: log.read_text().endswith("\n"), process, log, 60)
        pids = [int(pid) for pid in log.read_text().split()]
        assert len(pids) == 2
        assert all(psutil.pid_exists(pid) for pid in pids)
    finally:
        end(process, signal.SIGKILL)
    assert _left(pids) == []


def _left(pids: list[int]) -> list[int]:
    """The processes that have not ended within some seconds."""
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
