"""The outcome of a load: the time of each generation at OpenAI and in the worker, by step."""

from dataclasses import dataclass
from typing import Any

from tests.bench.figures import Figure, spread
from tests.bench.load import Order
from tests.bench.meter import Meter
from tests.bench.world import World

#: Seconds, 99 times of 100, whatever else the worker does.
HEALTH_TARGET = 0.05
_ROWS = "select id::text, status, extract(epoch from completed_at)::float8 as ended from generation_sessions"


@dataclass(frozen=True)
class Done:
    """One completed generation; times in seconds since 1970, `own` in seconds."""

    due: float
    ended: float
    #: From the queue to the stored result, without the time that OpenAI took.
    own: float


@dataclass(frozen=True)
class Outcome:
    """Completed generations in the order of their ends, and everything else that was seen."""

    done: list[Done]
    failed: int
    lost: int
    calls: dict[str, Any]
    steps: dict[str, list[float]]


def read(world: World, ordered: list[Order]) -> Outcome:
    """Ask the database, the image API and the worker's log."""
    rows = {row["id"]: row for row in world.sandbox.database.fetch(_ROWS)}
    at_openai: dict[str, float] = {}
    for call in world.sandbox.openai.calls():
        at_openai[call.prompt] = at_openai.get(call.prompt, 0) + (call.finished or call.started) - call.started
    done = []
    for order in ordered:
        if (row := rows[order.session_id])["status"] == "completed":
            own = row["ended"] - order.due - at_openai[order.session_id]
            done.append(Done(order.due, row["ended"], own))
    failed = sum(row["status"] == "failed" for row in rows.values())
    steps: dict[str, list[float]] = {}
    for line in world.worker.logs("generation_ended"):
        for step, seconds in line["steps"].items():
            steps.setdefault(step, []).append(seconds)
    done.sort(key=lambda item: item.ended)
    lost = len(ordered) - len(done) - failed
    return Outcome(done, failed, lost, world.sandbox.openai.summary(), steps)


def common_figures(outcome: Outcome, meter: Meter, *, latency: float) -> list[Figure]:
    """The figures of every load: losses, processor time, memory, and the time in each step."""
    count = max(1, len(outcome.done))
    # In the step "edit" OpenAI's time is the larger part.
    steps = {
        f"step {step} (with OpenAI's {latency:g} s)" if step == "edit" else f"step {step}": seconds
        for step, seconds in outcome.steps.items()
    }
    return [
        Figure("completed", len(outcome.done)),
        Figure("failed", outcome.failed, target=0),
        Figure("not ended", outcome.lost, target=0),
        Figure("worker CPU per generation", meter.worker_cpu / count, "s", 0.10),
        Figure("sandbox CPU per generation", meter.sandbox_cpu / count, "s"),
        *spread("/health", meter.health, targets=(None, None, HEALTH_TARGET))[2:],
        Figure("worker PSS peak", meter.peak_pss, "MB", 1024 * 1.048576),
        Figure("worker RSS peak", meter.peak_rss, "MB"),
        *(figure for step, seconds in steps.items() for figure in spread(step, seconds)[:2]),
    ]
