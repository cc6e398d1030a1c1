#!/usr/bin/env python3
"""Metrics of the host for the node exporter: its containers, and the output of the probes of other roles.

A timer runs it. When the engine does not answer it writes nothing: `wearon_host_metrics_timestamp_seconds` then stands
still, and an alert looks at that. docs/host-metrics.md lists the metrics.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

TYPES = {
    "wearon_container_healthy": "gauge",
    "wearon_container_start_time_seconds": "gauge",
    "wearon_container_oom_kills_total": "counter",
    "wearon_container_memory_bytes": "gauge",
    "wearon_container_memory_limit_bytes": "gauge",
    "wearon_container_cpu_seconds_total": "counter",
    "wearon_host_metrics_timestamp_seconds": "gauge",
}
Sample = tuple[str, str, float]


def main() -> None:
    """Measure once and replace the file that the exporter reads."""
    arguments = parse()
    now = time.time()
    containers = inspect(arguments.project)
    samples = list(container_samples(containers, count_kills(arguments, containers, now)))
    samples.append(("wearon_host_metrics_timestamp_seconds", "", now))
    replace(arguments.output, "".join([*render(samples), *probed(arguments.probes)]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", required=True, help="name of the Compose project")
    parser.add_argument("--output", required=True, type=Path, help="file for the textfile collector")
    parser.add_argument("--state", required=True, type=Path, help="file with what the next run has to know")
    parser.add_argument("--probes", required=True, type=Path, help="folder of programs that print metrics of their own")
    return parser.parse_args()


# --- containers


def docker(*arguments: str) -> str:
    command = ["docker", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout  # noqa: S603


def inspect(project: str) -> dict[str, Any]:
    """The container of each service; the newest one while Compose replaces it."""
    label = "label=com.docker.compose"
    ids = docker("ps", "-aq", "--filter", f"{label}.project={project}", "--filter", f"{label}.oneoff=False").split()
    found = json.loads(docker("inspect", *ids)) if ids else []
    found.sort(key=lambda one: one["Created"])
    return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}


def container_samples(containers: dict[str, Any], kills: dict[str, int]) -> Iterator[Sample]:
    for service, one in containers.items():
        state, labels = one["State"], f'{{service="{service}"}}'
        healthy = state["Running"] and state.get("Health", {}).get("Status", "healthy") == "healthy"
        yield "wearon_container_healthy", labels, int(healthy)
        yield "wearon_container_start_time_seconds", labels, timestamp(state["StartedAt"])
        yield "wearon_container_oom_kills_total", labels, kills[one["Id"]]
        yield "wearon_container_memory_limit_bytes", labels, one["HostConfig"]["Memory"]
        with suppress(OSError):  # it has ended since the engine was asked
            group = Group(state["Pid"])
            yield "wearon_container_memory_bytes", labels, group.memory()
            yield "wearon_container_cpu_seconds_total", labels, group.cpu_seconds()


def timestamp(text: str) -> float:
    """Unix time of what the engine wrote; 0 for what never happened."""
    return max(0.0, datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())


def count_kills(arguments: argparse.Namespace, containers: dict[str, Any], now: float) -> dict[str, int]:
    """Processes that the kernel killed in each container since it was created.

    The kernel counts in the control group, which is a new one after each start: a killed main process takes its count
    along. The engine's events know of those, and nothing of a child that died alone. Whichever saw more is right.
    """
    try:
        state = json.loads(arguments.state.read_text())
    except (OSError, ValueError):
        state = {"time": now - 1, "containers": {}}
    window = ["--since", f"{state['time']:.3f}", "--until", f"{now:.3f}"]
    filters = ["--filter", "type=container", "--filter", "event=oom"]
    events = docker("events", *window, *filters, "--format", "{{.Actor.ID}}").split()
    known = {}
    for one in containers.values():
        id_, started = one["Id"], one["State"]["StartedAt"]
        before = state["containers"].get(id_, {"started": started, "seen": 0, "kills": 0})
        seen = before["seen"] if started == before["started"] else 0
        with suppress(OSError):
            now_seen = Group(one["State"]["Pid"]).kills()
            new, seen = now_seen - seen, now_seen
            events += [id_] * max(0, new - events.count(id_))
        known[id_] = {"started": started, "seen": seen, "kills": before["kills"] + events.count(id_)}
    replace(arguments.state, json.dumps({"time": now, "containers": known}))
    return {id_: entry["kills"] for id_, entry in known.items()}


class Group:
    """The control group of a container, in either version of the kernel's interface."""

    def __init__(self, pid: int) -> None:
        """That of a process.

        Raises:
            OSError: there is no such process, also while a container does not run (0).
        """
        root = Path("/sys/fs/cgroup")
        lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        folders = {name: path.lstrip("/") for _, names, path in lines for name in names.split(",")}
        self._unified = "memory" not in folders
        self._memory = root / folders[""] if self._unified else root / "memory" / folders["memory"]
        self._cpu = self._memory if self._unified else root / "cpuacct" / folders["cpuacct"]

    def memory(self) -> int:
        """Bytes in use without the page cache, which the kernel frees on demand."""
        used = int((self._memory / ("memory.current" if self._unified else "memory.usage_in_bytes")).read_text())
        prefix = "" if self._unified else "total_"
        numbers = self._numbers(self._memory / "memory.stat")
        return max(0, used - numbers[f"{prefix}inactive_file"] - numbers[f"{prefix}active_file"])

    def kills(self) -> int:
        """Processes killed for want of memory since the group was made."""
        return self._numbers(self._memory / ("memory.events" if self._unified else "memory.oom_control"))["oom_kill"]

    def cpu_seconds(self) -> float:
        """CPU time of all its processes."""
        if self._unified:
            return self._numbers(self._cpu / "cpu.stat")["usage_usec"] / 1e6
        return int((self._cpu / "cpuacct.usage").read_text()) / 1e9

    @staticmethod
    def _numbers(path: Path) -> dict[str, int]:
        return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}


# --- probes


def probed(folder: Path) -> Iterator[str]:
    """The output of each program; a program that fails fails the run, and with it the timestamp stands still."""
    for program in sorted(folder.iterdir()):
        yield subprocess.run([program], check=True, capture_output=True, text=True, timeout=20).stdout  # noqa: S603


# --- files


def render(samples: list[Sample]) -> Iterator[str]:
    """The text format, samples of one metric together."""
    for name, kind in TYPES.items():
        lines = [f"{name}{labels} {value!r}\n" for known, labels, value in samples if known == name]
        if lines:
            yield f"# TYPE {name} {kind}\n"
            yield from lines


def replace(path: Path, text: str) -> None:
    """Replace a file in one step, so that a reader never sees half of it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o644)
    os.replace(new, path)


if __name__ == "__main__":
    main()
