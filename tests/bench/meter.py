"""Processor time and memory of groups of processes, read from /proc, and how soon /health answers under the load."""

import math
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import psutil

_MB = 1e6


def tree(pids: list[int]) -> list[int]:
    """These processes and everything that they have started."""
    found = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found += [pid, *(child.pid for child in process.children(recursive=True))]
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of the processes and of their children, ended ones included."""
    total = 0.0
    for pid in tree(pids):
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        if pid in pids:
            total += times.children_user + times.children_system
    return total


def memory(pid: int, kind: str = "Pss") -> float:
    """Megabytes of one process: Pss shares common pages between their users, Rss counts them for each."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:")) / _MB


@dataclass
class Meter:
    """A context manager that watches the worker (all of its processes) and the sandbox."""

    worker: int
    sandbox: list[int]
    url: str
    peak_pss: float = 0
    peak_rss: float = 0
    worker_cpu: float = 0
    sandbox_cpu: float = 0
    #: Seconds of each look at /health, ten in a second; infinite without an answer.
    health: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.worker_cpu, self.sandbox_cpu = -cpu_seconds([self.worker]), -cpu_seconds(self.sandbox)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._sample, self._look)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.worker_cpu += cpu_seconds([self.worker])
        self.sandbox_cpu += cpu_seconds(self.sandbox)
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(1.0):
            pids = tree([self.worker])
            self.peak_pss = max(self.peak_pss, sum(memory(pid) for pid in pids))
            self.peak_rss = max(self.peak_rss, sum(memory(pid, "Rss") for pid in pids))

    def _look(self) -> None:
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while not self._stop.wait(0.1):
                begun = time.monotonic()
                try:
                    client.get("/health").raise_for_status()
                    self.health.append(time.monotonic() - begun)
                except httpx.HTTPError:
                    self.health.append(math.inf)


def names(pid: int) -> dict[str, int]:
    """The worker's processes by name."""
    found = {}
    for number in tree([pid]):
        name = Path(f"/proc/{number}/comm").read_text().strip().removeprefix("wearon-")
        found["supervisor" if number == pid else name] = number
    return found
