"""Memory of the container as the kernel counts it: the limit, and how near it is."""

import ctypes
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from worker.logs import get_logger

log = get_logger(__name__)

#: Version 2 of the kernel's control groups, and version 1: limit, usage, statistics, and the name of the cache in them.
_GROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
_ROOT = Path("/sys/fs/cgroup")
#: Numbers of glibc's options in <malloc.h>.
_MALLOPT = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3, "MALLOC_ARENA_MAX": -8}
#: Reading takes 0.1 ms.
_AGAIN_SECONDS = 0.5


def limit_bytes(root: Path = _ROOT) -> int:
    """The container's limit, or the host's memory where there is none."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit for names in _GROUPS if (limit := _number(root / names[0]))]
    return min([host, *limits])


def used_bytes(root: Path = _ROOT) -> int | None:
    """Memory that only the end of a process frees; None where the kernel does not say."""
    for _, usage, statistics, cache in _GROUPS:
        if used := _number(root / usage):
            return max(0, used - _field(root / statistics, cache))
    return None


class HighWater:
    """Tells when no further message should be taken, so that the kernel ends no paid call for want of memory."""

    def __init__(self, share: float, root: Path = _ROOT) -> None:
        self._root = root
        self._limit = limit_bytes(root)
        self._mark = share * self._limit
        self._reached = False
        self._looked_at = float("-inf")

    def reached(self) -> bool:
        """Tell if the container uses more memory than the mark allows; logs every change."""
        if time.monotonic() - self._looked_at < _AGAIN_SECONDS:
            return self._reached
        self._looked_at = time.monotonic()
        used = used_bytes(self._root) or 0
        reached = used > self._mark
        if reached != self._reached:
            log.warning("memory_filled" if reached else "memory_freed", used_bytes=used, limit_bytes=self._limit)
        self._reached = reached
        return reached


def tune(options: Mapping[str, int]) -> None:
    """Set options of glibc's allocator by their variables, for this process; the environment's own values go first."""
    with suppress(AttributeError):  # no glibc
        for variable, value in options.items():
            if variable not in os.environ:
                ctypes.CDLL(None).mallopt(_MALLOPT[variable], value)


def give_back() -> None:
    """Give what glibc keeps for the next allocation back to the kernel."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _number(path: Path) -> int:
    """Read a number; 0 if the kernel says nothing, or that there is no limit."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _field(path: Path, name: str) -> int:
    try:
        lines = dict(line.split() for line in path.read_text().splitlines())
        return int(lines.get(name, 0))
    except (OSError, ValueError):
        return 0
