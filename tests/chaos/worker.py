"""A worker that can be hurt: killed, frozen, watched from outside."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Self

from tests.integration.scrape import scrape
from tests.integration.worker_process import ENDED, WorkerProcess, wait_for
from tests.sandbox import Sandbox

#: `CHAOS=full` is `make chaos`; without it the bounded version runs, as a part of `make test`.
FULL = os.environ.get("CHAOS") == "full"
#: Production's behaviour with a tenth of its waiting times (defaults: 30, 10, 120, 310 and 10 s).
LEASE_SECONDS = 3.0
GRACE_SECONDS = 5.0
QUICK = {
    "WORKER_CONCURRENCY": "8",
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "SWEEP_INTERVAL_SECONDS": "0.5",
    "ORPHAN_GRACE_SECONDS": str(GRACE_SECONDS),
    "DRAIN_TIMEOUT_SECONDS": "30",
    "RATE_LIMIT_RETRY_SECONDS": "1",
}


class Worker(WorkerProcess):
    """`wearon-worker run` in its own process group, with everything that can happen to it."""

    #: All of this run, for the report of a failed test.
    made: ClassVar[list["Worker"]] = []

    def __init__(self, sandbox: Sandbox, **environment: str) -> None:
        super().__init__(sandbox, **{**QUICK, **environment})
        self.made.append(self)
        self._last_words = ""

    def start(self, *, ready: bool = True) -> Self:
        """Start the worker with a guard that ends the whole group if this process is killed."""
        super().start(ready=False)
        self._guard = subprocess.Popen(
            ["sh", "-c", f"read _; kill -9 -- -{self.process.pid}"], stdin=subprocess.PIPE, start_new_session=True
        )
        if ready:
            wait_for(self.is_ready, 90, lambda: f"worker is not ready:\n{self.output()[-3000:]}")
        return self

    @property
    def pool(self) -> int:
        """Process id of the Celery process."""
        (pid,) = self.children()
        return pid

    def kill(self) -> None:
        """SIGKILL for the whole group, also when the container's first process is gone already: power off."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = 30) -> int:
        """Wait for the end and return the exit code."""
        code = super().wait(seconds)
        self._guard.kill()
        self._guard.wait()
        return code

    @property
    def ended(self) -> bool:
        """Return True once the test is done with the worker."""
        return bool(self._last_words)

    def output(self) -> str:
        """The output of the worker so far, also after its end."""
        return self._last_words or super().output()

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._last_words = super().output()
        super().__exit__(*error)

    def freeze(self) -> None:
        """SIGSTOP for the whole group: a host that hangs."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: the group continues."""
        os.killpg(self.process.pid, signal.SIGCONT)

    @contextmanager
    def frozen(self, seconds: float) -> Iterator[None]:
        """Freeze the worker during the block, at least for `seconds`."""
        self.freeze()
        until = time.monotonic() + seconds
        try:
            yield
            time.sleep(max(0.0, until - time.monotonic()))
        finally:
            self.thaw()

    def reason(self) -> str:
        """The last line of a worker that ended by itself."""
        return str(self.logs("worker_ended")[-1]["reason"])


def counted(*workers: Worker) -> Counter[str]:
    """The settled sessions by outcome, as the metrics of the living workers count them."""
    seen = [scrape(worker.url) for worker in workers]
    name = "wearon_generations_total"
    return Counter({end: sum(int(one.value(name, outcome=end)) for one in seen) for end in ENDED})


def gone(pid: int) -> bool:
    """True if a process has ended; a zombie that waits to be reaped counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
