"""From the start of the process to ready, and the memory of an idle worker."""

import time

from tests.bench.figures import Figure
from tests.bench.meter import cpu_seconds, memory, names
from tests.bench.options import Options
from tests.bench.progress import Progress
from tests.bench.world import world

_IDLE_SECONDS = 20.0
_STARTS = 3


def run(options: Options, progress: Progress) -> list[Figure]:
    """A few starts, the first of which may read from the disk; then the last one at rest."""
    idle, starts = (2.0, 1) if options.quick else (_IDLE_SECONDS, _STARTS)
    seconds = []
    with world(options.megapixels, WORKER_CONCURRENCY=str(options.concurrency)) as around:
        for number in range(starts):
            progress(f"start {number + 1} of {starts}")
            begun = time.monotonic()
            around.start_worker()
            seconds.append(time.monotonic() - begun)
            if number < starts - 1:
                around.worker.stop()
        pid = around.worker.process.pid
        start_cpu = cpu_seconds([pid])
        progress("at rest")
        time.sleep(idle)
        parts = {name: memory(number) for name, number in names(pid).items()}
        rest_cpu = cpu_seconds([pid]) - start_cpu
    return [
        Figure("start to ready, first", seconds[0], "s"),
        Figure("start to ready, best", min(seconds), "s", 4),
        Figure("start CPU", start_cpu, "s"),
        *(Figure(f"idle PSS of {name}", value, "MB") for name, value in parts.items()),
        Figure("idle PSS", sum(parts.values()), "MB", 300),
        Figure("idle CPU", 100 * rest_cpu / idle, "% of a core"),
    ]
