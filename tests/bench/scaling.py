"""Growth from one to four instances on one Redis and one database, with work made cheap, and what a generation uses.

Small pictures and few slots: an instance ends as many generations as its slots allow and leaves the cores idle, so
that what binds is what binds several hosts. A last run holds the account's limit over all instances, and
`limiter` lets four processes ask for 3,000 calls a minute.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from tests.bench import load, machine, scaling_limit
from tests.bench.figures import Figure
from tests.bench.meter import cpu_seconds
from tests.bench.options import Options
from tests.bench.progress import Progress
from tests.bench.scaling_model import Point, figures_of_fit
from tests.bench.world import World, world
from tests.integration.worker_process import WorkerProcess

MOST = 4
_SLOTS, _LATENCY_SECONDS, _MEGAPIXELS = 10, 8.0, 0.3
_QUICK_LATENCY_SECONDS = 1.0
_PER_SECOND = _SLOTS / _LATENCY_SECONDS
_IDLE_SECONDS, _BUSY_SECONDS = 12.0, 48.0
_PATIENCE_SECONDS = 90
_NO_LIMIT = 1_000_000
_LIMIT = 300
_ENDS = """
select extract(epoch from completed_at)::float8 as ended from generation_sessions
where status = 'completed' order by ended
"""


def run(options: Options, progress: Progress) -> list[Figure]:
    """One to four instances at work and at rest, the fitted costs, and the account's limit over four."""
    most = 2 if options.quick else MOST
    rates, points = [], []
    for count in range(1, most + 1):
        rate, *uses = _measured(count, options, progress)
        rates.append(rate)
        points += uses
    figures = [Figure(f"{count} instances: completed", 60 * rate, "/min") for count, rate in enumerate(rates, 1)]
    growth = rates[-1] / rates[0] / most
    figures.append(Figure(f"{most} instances: share of linear growth", growth, "", 0.9, at_least=True))
    figures += figures_of_fit(points)
    return [*figures, *_held(most, options, progress), *scaling_limit.run(options, progress)]


def _measured(count: int, options: Options, progress: Progress) -> tuple[float, Point, Point]:
    """Generations a second in the steady time, and the uses at rest and with as much as the slots take."""
    idle, busy = (2.0, 6.0) if options.quick else (_IDLE_SECONDS, _BUSY_SECONDS)
    with _instances(count, _NO_LIMIT, options) as (around, workers):
        progress(f"{count} instances at rest")
        time.sleep(idle / 3)
        with _Uses(around, workers) as rest:
            time.sleep(idle)
        with _Uses(around, workers) as work:
            asked = round(count * _PER_SECOND * busy)
            load.offer(around, asked, None, _PATIENCE_SECONDS + asked / 4, progress, f"{count} instances: ")
        ends = [row["ended"] for row in around.sandbox.database.fetch(_ENDS)]
    return slope(ends), rest.point(count, 0), work.point(count, len(ends))


def slope(ends: list[float]) -> float:
    """Ends a second, by least squares: slots that begin together end in waves, whose edges must not count."""
    return float(np.polyfit(np.array(ends) - ends[0], np.arange(len(ends)), 1)[0])


def _held(count: int, options: Options, progress: Progress) -> list[Figure]:
    """More than the account's limit offered to several instances."""
    with _instances(count, _LIMIT, options) as (around, _):
        asked = 20 if options.quick else _LIMIT + 60
        name = f"{count} instances at {_LIMIT} a minute: "
        load.offer(around, asked, None, _PATIENCE_SECONDS + asked / 4, progress, name)
        calls = around.sandbox.openai.summary()
    name = f"{count} instances, limit {_LIMIT}"
    return [
        Figure(f"{name}: calls", calls["total"], "", asked, at_least=True),
        Figure(f"{name}: calls in any 60 s", calls["max_per_minute"], "", _LIMIT),
    ]


@contextmanager
def _instances(count: int, per_minute: int, options: Options) -> Iterator[tuple[World, list[WorkerProcess]]]:
    settings = {
        "WORKER_CONCURRENCY": str(_SLOTS),
        "OPENAI_REQUESTS_PER_MINUTE": str(per_minute),
        "LANE_MAX_RUNNING": "1",
    }
    with world(_MEGAPIXELS, **settings) as around, ExitStack() as undo:
        latency = _QUICK_LATENCY_SECONDS if options.quick else _LATENCY_SECONDS
        around.sandbox.openai.set(compose=False, latency=latency)
        workers = [around.worker, *(WorkerProcess(around.sandbox, **settings) for _ in range(count - 1))]
        for worker in workers:
            with machine.on(machine.cores()[0]):
                worker.start(ready=False)
            undo.callback(worker.kill)
        deadline = time.monotonic() + 120
        while not all(worker.is_ready() for worker in workers):
            if time.monotonic() > deadline:
                sys.exit(f"{count} instances were not ready within 120 s")
            time.sleep(0.2)
        yield around, workers


class _Uses:
    """A context manager that counts what the instances, Redis and the database use meanwhile."""

    def __init__(self, around: World, workers: list[WorkerProcess]) -> None:
        self._around, self._pids = around, around.sandbox.pids()
        self._workers = [worker.process.pid for worker in workers]

    def __enter__(self) -> "_Uses":
        self._begun, self._before = time.monotonic(), self._counts()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._begun
        self._used = [after - before for after, before in zip(self._counts(), self._before, strict=True)]

    def point(self, instances: int, ended: int) -> Point:
        """All uses per second."""
        return Point(instances, ended / self.seconds, *(used / self.seconds for used in self._used))

    def _counts(self) -> list[float]:
        told: Any = self._around.sandbox.redis.info("stats")
        return [
            cpu_seconds(self._workers),
            cpu_seconds([self._pids["valkey"]]),
            cpu_seconds([self._pids["postgres"]]),
            float(told["total_commands_processed"]),
        ]
