"""Child processes that never outlive this one, and the folder they keep their data in."""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from time import monotonic, sleep

_PREFIX = "wearon-sandbox-"


@cache
def _spawner() -> ThreadPoolExecutor:
    # Linux sends the death signal when the *thread* that started the child ends, so one thread that lives as long as
    # the process starts them all: a chaos test may call start() from a thread of its own.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-spawner")


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    death_signal: int = signal.SIGKILL,
    uid: int | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` on this thread's cores; it gets `death_signal` as soon as this process is gone, even killed."""
    launch = [sys.executable, "-I", "-S", Path(__file__).with_name("launch.py")]
    user = "-" if uid is None else uid
    argv = [str(part) for part in (*launch, os.getpid(), int(death_signal), user, *command)]
    cores = os.sched_getaffinity(0) if sys.platform == "linux" else None

    def start() -> subprocess.Popen[bytes]:
        if cores:
            os.sched_setaffinity(0, cores)
        with log.open("ab") as output:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(env) if env is not None else None,
                pass_fds=pass_fds,
                cwd=cwd,
                start_new_session=True,  # a Ctrl-C is for the sandbox, which stops its children in order
            )

    return _spawner().submit(start).result()


@contextlib.contextmanager
def heeded(number: signal.Signals) -> Iterator[None]:
    """Let programs that start meanwhile take a signal. Under nohup or behind a shell's `&` they would ignore it."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


def end(process: subprocess.Popen[bytes], how: int = signal.SIGTERM, timeout: float = 10) -> None:
    """Send `how` and wait; kill what does not end in time. A process that has ended already is fine."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)  # a paused process handles nothing else
        process.send_signal(how)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, timeout: float = 30) -> None:
    """Wait for `ready`; raises with the end of the log when the process ends or the time is over."""
    deadline = monotonic() + timeout
    while not ready():
        if process.poll() is not None or monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{log.stem} did not start (exit code {process.returncode}):\n{tail}")
        sleep(0.01)


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port of `address` that no process uses at this moment, and no outgoing connection takes later.

    Ports from the system's ephemeral range would not do: while a server is stopped, a client's connection could get its
    port, or even connect to itself. Hypothesis seeds `random` alike in each process: the system's own numbers differ.
    """
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return port


def data_folder() -> Path:
    """A new temporary folder, removed when this process ends; folders of killed processes are removed on the way."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    folder.chmod(0o711)  # PostgreSQL may have to run as another user
    atexit.register(remove, folder)
    return folder


def remove(folder: Path) -> None:
    """Delete a data folder; what cannot be deleted stays."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
