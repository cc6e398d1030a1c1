"""The growth of cost with the generations in flight and the size of the photos, OpenAI as slow as in production."""

from dataclasses import replace

from tests.bench import load, outcome
from tests.bench.figures import Figure, spread
from tests.bench.options import Options
from tests.bench.progress import Progress
from tests.bench.world import world

CONCURRENCIES = (10, 50, 150, 300)
MEGAPIXELS = (2, 12, 48)
#: In flight at the end of the load: nearly all slots.
_FILLED = 0.95
_SECONDS = 45.0
#: For the sizes: a light and even load.
_PER_SECOND, _COUNT, _LATENCY_SECONDS = 2.0, 50, 2.0
_PATIENCE_SECONDS = 60
_NO_LIMIT = "1000000"


def run(options: Options, progress: Progress) -> list[Figure]:
    """Slots filled to the brim one after another, then sizes at a light load; the account's limit is lifted."""
    figures = []
    for slots in CONCURRENCIES[:1] if options.quick else CONCURRENCIES:
        rate = _PER_SECOND if options.quick else _FILLED * slots / options.latency
        count = 5 if options.quick else round(rate * max(_SECONDS, 1.2 * options.latency))
        named = replace(options, concurrency=slots)
        figures += _measured(f"concurrency {slots}", named, rate, count, progress)
    for size in MEGAPIXELS[:1] if options.quick else MEGAPIXELS:
        named = replace(options, megapixels=size, latency=min(options.latency, _LATENCY_SECONDS))
        count = 5 if options.quick else _COUNT
        figures += _measured(f"{size} megapixels", named, _PER_SECOND, count, progress)
    return figures


def _measured(name: str, options: Options, rate: float, count: int, progress: Progress) -> list[Figure]:
    settings = {"WORKER_CONCURRENCY": str(options.concurrency), "OPENAI_REQUESTS_PER_MINUTE": _NO_LIMIT}
    with world(options.megapixels, **settings) as around:
        around.sandbox.openai.set(latency=options.latency)
        progress(f"{name}: starting the worker")
        around.start_worker()
        with around.meter() as meter:
            patience = 2 * options.latency + _PATIENCE_SECONDS
            ordered = load.offer(around, count, rate, patience, progress, f"{name}: ")
        seen = outcome.read(around, ordered)
    return [
        Figure(f"{name}: offered per minute", 60 * rate),
        Figure(f"{name}: completed", len(seen.done), "", count, True),
        Figure(f"{name}: calls in flight, peak", seen.calls["peak_in_flight"]),
        Figure(f"{name}: CPU per generation", meter.worker_cpu / max(1, len(seen.done)), "s"),
        Figure(f"{name}: PSS peak", meter.peak_pss, "MB"),
        *spread(f"{name}: own time", [item.own for item in seen.done])[:2],
    ]
