"""Metrics of the lanes: the longest ones by name, all others together."""

from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import Metric

from worker.generation.queue.lane_view import Lane

#: Lanes that have series of their own: a shop system with thousands of stores is no thousand series.
_SHOWN = 20
OTHER = "other"


def lane_metrics(lanes: list[Lane], waits: dict[str, float]) -> list[Metric]:
    """Metrics of the longest lanes, which stand first in `lanes`, and of all others together; `waits` is in seconds."""
    waiting = Gauge("wearon_lane_waiting_messages", "Messages that wait, by lane.", labels=["lane"])
    running = Gauge("wearon_lane_running_messages", "Messages taken, not finished.", labels=["lane"])
    oldest = Gauge("wearon_lane_oldest_age_seconds", "Age of a lane's next message.", labels=["lane"])
    text = "Estimated wait of a message that is queued now, by lane."
    wait = Gauge("wearon_lane_estimated_wait_seconds", text, labels=["lane"])
    rows = [(lane.name, [lane]) for lane in lanes[:_SHOWN]]
    for name, part in [*rows, *([(OTHER, lanes[_SHOWN:])] if lanes[_SHOWN:] else [])]:
        waiting.add_metric([name], sum(lane.waiting for lane in part))
        running.add_metric([name], sum(lane.running for lane in part))
        oldest.add_metric([name], max(lane.age for lane in part))
        if known := [waits[lane.name] for lane in part if lane.name in waits]:
            wait.add_metric([name], max(known))
    return [waiting, running, oldest, wait, *_bulk_metrics([lane for lane in lanes if lane.is_bulk])]


def _bulk_metrics(lanes: list[Lane]) -> list[Metric]:
    """All bulk together, also of lanes that have no series."""
    oldest = max((lane.age for lane in lanes), default=0.0)
    running = sum(lane.running for lane in lanes)
    return [
        Gauge("wearon_bulk_waiting_messages", "Messages of bulk that wait.", sum(lane.waiting for lane in lanes)),
        Gauge("wearon_bulk_running_messages", "Messages of bulk taken, not finished.", running),
        Gauge("wearon_bulk_oldest_age_seconds", "Age of the oldest next message of a lane of bulk.", oldest),
    ]
