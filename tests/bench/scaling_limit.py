"""The limiter alone: four processes that ask for more calls than the largest limit lets through."""

import subprocess
import sys

from redis import Redis

from tests.bench.figures import Figure, most_within
from tests.bench.meter import cpu_seconds
from tests.bench.options import Options
from tests.bench.progress import Progress
from tests.sandbox.processes import data_folder, remove
from tests.sandbox.valkey import Valkey
from tests.worker.generation import limiter_client

PER_MINUTE = 3000
_PROCESSES = 4
#: The slack that a worker on a busy machine takes by itself; these clients do not tell when a call was sent.
_WINDOW_SECONDS, _SLACK_SECONDS = 60.0, 0.6
#: Of a window's calls, in all: the window has to bind.
_ASKED = 1.2


def run(options: Options, progress: Progress) -> list[Figure]:
    """The most calls in any window, as Redis' clock saw them, and what each call costs Redis."""
    # The same rate of calls in a shorter window.
    window = 2.0 if options.quick else _WINDOW_SECONDS
    limit = round(PER_MINUTE * window / 60)
    progress(f"the limiter at {limit} calls in {window:g} s")
    folder = data_folder()
    valkey = Valkey(folder)
    try:
        valkey.start()
        before = cpu_seconds([valkey.pid or 0])
        _ask(valkey.url, limit, window, round(_ASKED * limit / _PROCESSES))
        used = cpu_seconds([valkey.pid or 0]) - before
        with Redis.from_url(valkey.url) as redis:
            seen = [int(moment) / 1e6 for moment in redis.lrange(limiter_client.SEEN, 0, -1)]
    finally:
        valkey.kill()
        remove(folder)
    name = f"limiter, {_PROCESSES} processes, {PER_MINUTE} a minute"
    return [
        Figure(f"{name}: calls in any window", most_within(seen, window), f"in {window:g} s", limit),
        Figure(f"{name}: calls", len(seen)),
        Figure(f"{name}: CPU of Redis per call", 1000 * used / max(1, len(seen)), "ms"),
    ]


def _ask(url: str, limit: int, window: float, each: int) -> None:
    arguments = [url, str(limit), str(window), str(_SLACK_SECONDS), str(each)]
    processes = [
        subprocess.Popen([sys.executable, "-m", limiter_client.__name__, *arguments]) for _ in range(_PROCESSES)
    ]
    for process in processes:
        if process.wait(4 * _WINDOW_SECONDS):
            raise RuntimeError(f"a client of the limiter ended with {process.returncode}")
