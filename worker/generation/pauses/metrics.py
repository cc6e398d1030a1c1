"""Metrics of the automatic pause."""

from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import Metric

from worker.generation.metrics import PAUSES
from worker.generation.pauses.pauses import Pause


def pause_metrics(pause: Pause | None) -> list[Metric]:
    """The automatic pause by its reason, and when it began."""
    paused = Gauge(
        "wearon_intake_paused", "1 while the intake is paused for this reason, but for probes.", labels=["reason"]
    )
    for reason in sorted({*PAUSES, *([pause.reason] if pause else [])}):
        paused.add_metric([reason], pause is not None and pause.reason == reason)
    since = pause.since if pause else 0
    return [paused, Gauge("wearon_intake_paused_timestamp_seconds", "When the pause began; 0: there is none.", since)]
