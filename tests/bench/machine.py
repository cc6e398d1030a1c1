"""The machine under the figures, and the cores of the worker and the sandbox."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import glob
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: The recommended VPS.
WORKER_CORES = 2
#: As this process was started: what it may use narrows while it is `on` some of them.
_AVAILABLE = sorted(os.sched_getaffinity(0))
_PACKAGES = ("celery", "openai", "httpx", "pillow", "redis", "mediapipe", "uvicorn")


def describe() -> dict[str, Any]:
    """Cores, processor, memory, Python and the packages that matter."""
    worker, sandbox = cores()
    shared = ", one of which they share" if worker & sandbox else ""
    return {
        "cores": len(_AVAILABLE),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "placement": f"worker on cores {sorted(worker)}, sandbox on {sorted(sandbox)}{shared}",
    }


def cores() -> tuple[set[int], set[int]]:
    """Cores of the worker and of the sandbox: disjoint from three cores on; on fewer the sandbox keeps to one."""
    return set(_AVAILABLE[:WORKER_CORES]), set(_AVAILABLE[WORKER_CORES:] or _AVAILABLE[-1:])


@contextmanager
def on(chosen: set[int]) -> Iterator[None]:
    """This thread, and the processes that it starts meanwhile, run on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin(pids: list[int], chosen: set[int]) -> None:
    """Move all threads of running processes to these cores; PostgreSQL's come and go meanwhile."""
    for pid in pids:
        for task in glob(f"/proc/{pid}/task/*"):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(Path(task).name), chosen)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
