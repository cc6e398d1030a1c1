"""A py-spy profile of the Celery process while it works, for https://www.speedscope.app."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.meter import names
from tests.integration.worker_process import WorkerProcess


@contextmanager
def profiled(worker: WorkerProcess, file: str) -> Iterator[None]:
    """Record until the block ends; nothing happens without a file name."""
    if not file:
        yield
        return
    program = Path(sys.executable).with_name("py-spy")
    options = ["--format", "speedscope", "--rate", "200", "--gil", "--output", file]
    recorder = subprocess.Popen([program, "record", *options, "--pid", str(names(worker.process.pid)["celery"])])
    try:
        yield
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.wait(60)
