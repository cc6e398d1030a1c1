"""Messages at an even rate, OpenAI as slow as in production: pictures per minute, and the time that the worker adds."""

from tests.bench import load, outcome
from tests.bench.figures import Figure, most_within, spread
from tests.bench.options import Options
from tests.bench.profile import profiled
from tests.bench.progress import Progress
from tests.bench.world import world

#: After the last message, beside OpenAI's time.
_PATIENCE_SECONDS = 60


def run(options: Options, progress: Progress) -> list[Figure]:
    """The load of the product requirements, offered evenly for some minutes."""
    count = round(options.per_minute * options.minutes)
    with world(options.megapixels, WORKER_CONCURRENCY=str(options.concurrency)) as around:
        latency = {"median": options.latency, "sigma": options.sigma} if options.sigma else options.latency
        around.sandbox.openai.set(latency=latency)
        progress("starting the worker")
        around.start_worker()
        with around.meter() as meter, profiled(around.worker, options.profile):
            patience = 3 * options.latency + _PATIENCE_SECONDS
            ordered = load.offer(around, count, options.per_minute / 60, patience, progress)
        seen = outcome.read(around, ordered)
    ended = [item.ended for item in seen.done]
    minutes = full_minutes(ended, ordered[0].due + options.latency, options.minutes)
    return [
        Figure("offered per minute", options.per_minute),
        Figure("OpenAI latency", options.latency, "s"),
        Figure("concurrency", options.concurrency),
        *(Figure(f"completed in full minute {number}", done, "", 295, True) for number, done in enumerate(minutes, 1)),
        Figure("completed in best minute", most_within(ended, 60)),
        *spread("own time", [item.own for item in seen.done], targets=(0.15, 0.4)),
        Figure("calls in flight, peak", seen.calls["peak_in_flight"]),
        Figure("calls in any 60 s, peak", seen.calls["max_per_minute"], target=300),
        *outcome.common_figures(seen, meter, latency=options.latency),
    ]


def full_minutes(ended: list[float], begin: float, minutes: float) -> list[int]:
    """Completions in each whole minute of the steady time, which begins when the first result is due."""
    return [sum(0 <= moment - begin - 60 * number < 60 for moment in ended) for number in range(int(minutes))]
