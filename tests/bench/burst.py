"""The rate at which a backlog drains, with OpenAI fast and without a limit."""

from tests.bench import load, outcome
from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.bench.profile import profiled
from tests.bench.progress import Progress
from tests.bench.world import world

_LATENCY_SECONDS = 1.0
_PATIENCE_SECONDS = 300
_NO_LIMIT = "1000000"


def run(options: Options, progress: Progress) -> list[Figure]:
    """All messages in one moment."""
    count = options.burst
    settings = {"WORKER_CONCURRENCY": str(options.concurrency), "OPENAI_REQUESTS_PER_MINUTE": _NO_LIMIT}
    with world(options.megapixels, **settings) as around:
        around.sandbox.openai.set(latency=_LATENCY_SECONDS)
        progress("starting the worker")
        around.start_worker()
        with around.meter() as meter, profiled(around.worker, options.profile):
            ordered = load.offer(around, count, None, _PATIENCE_SECONDS, progress)
        seen = outcome.read(around, ordered)
    seconds = seen.done[-1].ended - ordered[0].due if seen.done else 0.0
    return [
        Figure("messages", count),
        Figure("concurrency", options.concurrency),
        Figure("drained in", seconds, "s"),
        Figure("drain rate", 60 * len(seen.done) / seconds if seconds else 0.0, "per minute"),
        Figure("calls in flight, peak", seen.calls["peak_in_flight"]),
        *outcome.common_figures(seen, meter, latency=_LATENCY_SECONDS),
    ]
