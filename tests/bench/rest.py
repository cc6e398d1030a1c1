"""Redis commands of an idle worker in a second, and of one generation: a managed Redis is often paid by the command."""

import time

from tests.bench.commands import Commands, Count
from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.bench.progress import Progress
from tests.bench.world import World, world
from tests.sandbox.client import HTTP

#: The start's own commands are over.
_SETTLE_SECONDS = 12.0
_SCRAPE_SECONDS = 15.0
_HEALTH_SECONDS = 3.0
_GENERATIONS, _QUICK_GENERATIONS = 20, 5
_GENERATION_SECONDS = 0.15


def run(options: Options, progress: Progress) -> list[Figure]:
    """Scraped and looked at as in production, first at rest, then with one generation after the other."""
    settle, rest = (2.0, 4.0) if options.quick else (_SETTLE_SECONDS, 60.0)
    count = _QUICK_GENERATIONS if options.quick else _GENERATIONS
    with world(options.megapixels, WORKER_CONCURRENCY=str(options.concurrency)) as around:
        around.sandbox.openai.set(latency=_GENERATION_SECONDS)
        around.start_worker()
        time.sleep(settle)
        with Commands(around.sandbox.valkey.port) as commands:
            progress("at rest")
            idle = commands.during(lambda: be_scraped(around, rest))
            progress(f"{count} generations")
            busy = commands.during(lambda: _generate(around, count))
    own = busy.less(idle, busy.seconds / idle.seconds)
    return [
        Figure("at rest, sent", idle.sent / idle.seconds, "per second", 1.5),
        Figure("at rest, with those that scripts call", idle.all / idle.seconds, "per second"),
        *_table("at rest", idle, 60 / idle.seconds, "per minute"),
        Figure("generation, sent", own.sent / count, "", 40),
        Figure("generation, with those that scripts call", own.all / count),
        *_table("generation", own, 1 / count, ""),
    ]


def be_scraped(around: World, seconds: float) -> None:
    """Let the worker rest; Prometheus reads its metrics and Docker its health meanwhile."""
    until = time.monotonic() + seconds
    scraped = time.monotonic() - _SCRAPE_SECONDS
    while time.monotonic() < until:
        around.worker.health()
        if time.monotonic() - scraped >= _SCRAPE_SECONDS:
            scraped = time.monotonic()
            HTTP.get(f"{around.worker.url}/metrics", timeout=5).raise_for_status()
        time.sleep(min(_HEALTH_SECONDS, max(0.0, until - time.monotonic())))


def _generate(around: World, count: int) -> None:
    for number in range(count):
        queued = around.sandbox.producer.b2c(images=[around.photos[number % len(around.photos)]] * 2)
        around.sandbox.settled("b2c", queued.session_id)


def _table(name: str, count: Count, factor: float, unit: str) -> list[Figure]:
    return [Figure(f"{name}: {what}", number * factor, unit) for what, number in count.by_command().items()]
