"""The worker as it runs in production: `wearon-worker run` in its own process group, reached only from outside."""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from tests.sandbox.processes import free_port, spawn

ROOT = Path(__file__).parents[2]
ENDED = ("completed", "failed")


class WorkerProcess:
    """A context manager; `start` and the ways to end it may also be called by hand, again and again."""

    def __init__(self, sandbox: Sandbox, **environment: str) -> None:
        self.environment = {**os.environ, **sandbox.env(**environment)}
        # As in the image, whose modules are compiled.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        log, name = tempfile.mkstemp(".log", "worker-", sandbox.folder)  # where it goes also when we are killed
        os.close(log)
        self.log_path = Path(name)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, *, ready: bool = True) -> Self:
        """Start the worker; by default returns when the worker is ready for messages."""
        self.process = spawn(
            [sys.executable, "-m", "worker", "run"],
            log=self.log_path,
            env={**self.environment, "HTTP_PORT": str(self.port)},
            cwd=ROOT,
        )
        if ready:
            wait_for(self.is_ready, 90, lambda: f"worker is not ready:\n{self.output()[-3000:]}")
        return self

    def is_ready(self) -> bool:
        """Return True if GET /ready answers 200."""
        if self.process.poll() is not None:
            raise AssertionError(f"worker ended with {self.process.returncode}:\n{self.output()[-3000:]}")
        try:
            return HTTP.get(f"{self.url}/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def health(self) -> dict[str, Any]:
        """Body of GET /health."""
        return dict(HTTP.get(f"{self.url}/health", timeout=5).raise_for_status().json())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the container's first process only, as Docker does."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL for the whole group: power off."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self, seconds: float = 30) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(seconds)

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def children(self) -> list[int]:
        """Process ids of the parts that run in processes of their own."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def output(self) -> str:
        """The output of the worker so far."""
        return self.log_path.read_text()

    def logs(self, event: str = "", **fields: object) -> list[dict[str, Any]]:
        """Log lines with this event and these fields, without a line that is being written."""
        whole = self.output().rpartition("\n")[0].splitlines()
        lines = [json.loads(line) for line in whole if event in line]
        return [line for line in lines if event in ("", line["event"]) and fields.items() <= line.items()]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.log_path.unlink(missing_ok=True)


def wait_for(condition: Callable[[], Any], seconds: float, what: str | Callable[[], str]) -> Any:
    """The condition's first true value; AssertionError with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.03)
    raise AssertionError(what if isinstance(what, str) else what())
