"""The result of the last audit in Redis: kept by the instance that audited, shown by every instance."""

import json
import time
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from redis.asyncio import Redis

from worker.generation import keys, odd
from worker.generation.audit.kinds import WRONG
from worker.generation.audit.report import Report


async def keep(redis: Redis, report: Report) -> None:
    """Make an audit's result known to every instance."""
    await redis.set(keys.AUDIT, json.dumps({"drift": report.drift, "time": time.time(), "kinds": report.counts}))


def metrics(kept: bytes | None) -> list[Metric]:
    """Metrics of what `keep` has kept; zeros without an audit."""
    last = _read(kept)
    counts = last.get("kinds", {})
    findings = GaugeMetricFamily("wearon_audit_findings", "Findings of the last audit.", labels=["kind"])
    for kind in sorted({*WRONG, *counts}):
        findings.add_metric([kind], counts.get(kind, 0))
    return [
        findings,
        GaugeMetricFamily("wearon_audit_drift_credits", "Credits that are not where they belong.", last["drift"]),
        GaugeMetricFamily("wearon_audit_timestamp_seconds", "When the last audit ended; 0: never.", last["time"]),
    ]


def _read(kept: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(kept or b"{}")
        kinds = {kind: int(count) for kind, count in found.get("kinds", {}).items()}
        return {**{name: float(found.get(name, 0)) for name in ("drift", "time")}, "kinds": kinds}
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        odd.note("value", keys.AUDIT, error)
        return {"drift": 0, "time": 0}
