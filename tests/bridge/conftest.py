"""The bridge as a process of its own: the real program, with the library's stand-in or with the library itself."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.sandbox.processes import free_port

ROOT = Path(__file__).parents[2]
LIBRARY = Path(sys.prefix) / "bridge"  # scripts/setup.sh
STANDIN = ROOT / "tests/testbed/standins"
SECRET = "a-secret-of-the-bridge-0123456789"
ALERT = "/whatsapp/send/grafana-alert"


class Bridge:
    """One running bridge."""

    def __init__(self, folder: Path, standin: bool = True) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        (folder / "out").mkdir(exist_ok=True)
        self.port = free_port("0.0.0.0")
        path = os.pathsep.join([str(STANDIN if standin else LIBRARY), str(ROOT)])
        environment = {"BRIDGE_DATA": str(self.data), "BRIDGE_PORT": str(self.port), "WEBHOOK_SECRET": SECRET}
        self.environment = {**os.environ, **environment, "PYTHONPATH": path, "CODE_SECONDS": "3"}
        self.log = folder / "log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "bridge", "run"]
            self.process = subprocess.Popen(command, env=self.environment, cwd=self.data, stdout=log, stderr=log)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(15)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bridge", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=30)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {SECRET}"})

    def post(self, path: str, secret: str = SECRET, **content: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx.post(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=30, **content)

    def alert(self, message: str = "hello", to: str = "user/491701234567") -> httpx.Response:
        return self.post(f"{ALERT}/{to}", json={"message": message})

    def wait(self, wanted: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if wanted():
                    return
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        pytest.fail(self.log.read_text())

    def state(self) -> str:
        return str(self.get("/pair").json()["state"])

    def wait_for(self, state: str) -> None:
        self.wait(lambda: self.state() == state)

    def link(self) -> None:
        """Scan the code."""
        self.wait_for("unlinked")
        assert self.post("/pair").status_code == 200
        (self.data / "scanned").touch()
        self.wait_for("linked")

    def fate(self, word: str) -> None:
        """Decide what WhatsApp does from now on."""
        (self.data / "fate").write_text(word)

    def metric(self, name: str) -> float:
        lines = [line.rsplit(" ", 1) for line in self.get("/metrics").text.splitlines() if not line.startswith("#")]
        return float(dict(lines)[name])

    def own_memory(self) -> int:
        """Bytes that the kernel cannot take back: without the files of programs and libraries."""
        memory = psutil.Process(self.process.pid).memory_full_info()
        return int(memory.rss - memory.shared)


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    running = Bridge(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge that is linked, shared by the tests of a module that leave the link alone."""
    running = Bridge(tmp_path_factory.mktemp("bridge"))
    running.link()
    yield running
    running.process.kill()
    running.process.wait()
