"""Messages at an even rate while OpenAI is down, then without quota: sessions failed, probes, and the recovery."""

import threading
import time
from collections import Counter

from tests.bench import load
from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.bench.progress import Progress
from tests.bench.world import World, world
from tests.sandbox.remote import ReceivedCall

FAULTS = {"server_error": "OpenAI down", "insufficient_quota": "no quota"}
_AROUND_SECONDS = 10.0
_LATENCY_SECONDS = 2.0
_PATIENCE_SECONDS = 300.0
#: Calls that were on their way when the pause began have ended by then.
_SETTLED_SECONDS = 1.0
#: Twice what is offered, so that the backlog drains.
_SETTINGS = {"WORKER_CONCURRENCY": "40", "OPENAI_REQUESTS_PER_MINUTE": "600"}
_QUICK = {"QUOTA_PAUSE_SECONDS": "2", "BREAKER_PROBE_SECONDS": "1"}


def run(options: Options, progress: Progress) -> list[Figure]:
    """Each fault for `minutes`; the pause must be left within 30 s of its end."""
    return [figure for fault, name in FAULTS.items() for figure in _outage(fault, name, options, progress)]


def _outage(fault: str, name: str, options: Options, progress: Progress) -> list[Figure]:
    seconds, around_seconds = options.minutes * 60, 3.0 if options.quick else _AROUND_SECONDS
    count = round((seconds + 2 * around_seconds) * options.per_minute / 60)
    with world(options.megapixels, **_SETTINGS, **(_QUICK if options.quick else {})) as around:
        openai = around.sandbox.openai
        openai.set(latency=_LATENCY_SECONDS, compose=False)
        progress("starting the worker")
        around.start_worker()
        ordered = load.orders(around, count, options.per_minute / 60)
        pusher = threading.Thread(target=load.push, args=(around, ordered, lambda sent: progress(f"{sent} queued")))
        pusher.start()
        time.sleep(around_seconds)
        openai.fault(fault)
        down = time.time()
        paused = _until(around, paused=True)
        time.sleep(max(0.0, down + seconds - time.time()))
        openai.clear()
        up = time.time()
        resumed = _until(around, paused=False)
        pusher.join()
        load.wait_until_ended(around, count, _PATIENCE_SECONDS, lambda ended: progress(f"{ended} of {count} ended"))
        rows = around.sandbox.database.fetch("select status, count(*)::int as n from generation_sessions group by 1")
        calls = openai.calls()
    statuses = {row["status"]: row["n"] for row in rows}
    probes = [call for call in calls if paused + _SETTLED_SECONDS < call.started < up]
    pictures = Counter(call.prompt for call in calls if call.status == 200)
    return [
        Figure(f"{name}: messages", count),
        Figure(f"{name}: completed", statuses.get("completed", 0), target=count, at_least=True),
        Figure(f"{name}: failed", statuses.get("failed", 0), target=0),
        Figure(f"{name}: paid twice", sum(number - 1 for number in pictures.values()), target=0),
        Figure(f"{name}: paused after", paused - down, "s"),
        Figure(f"{name}: probes", len(probes)),
        Figure(f"{name}: probes at once, peak", _peak(probes, up), target=1),
        Figure(f"{name}: pause ended after recovery", resumed - up, "s", target=30),
    ]


def _until(around: World, *, paused: bool) -> float:
    """Return the time at which the worker says that the intake is paused, or is not."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while bool(around.worker.health()["intake_paused"]) != paused and time.monotonic() < deadline:
        time.sleep(0.1)
    return time.time()


def _peak(calls: list[ReceivedCall], end: float) -> int:
    """Return the most calls that were in flight together."""
    moments = sorted([(call.started, 1) for call in calls] + [(call.finished or end, -1) for call in calls])
    level = peak = 0
    for _, step in moments:
        level += step
        peak = max(peak, level)
    return peak
