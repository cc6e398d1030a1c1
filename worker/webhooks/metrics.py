"""Metrics of callbacks. The gauges are sums of the database, the same for every instance: take `max()`."""

from worker.metrics import counter, gauge
from worker.webhooks.outbox import State
from worker.webhooks.sender import RESULTS

ATTEMPTS = counter("wearon_webhook_attempts_total", "Attempts to deliver a callback.", ("result",), RESULTS)
GIVEN_UP = counter("wearon_webhook_given_up_total", "Callbacks that were given up after their last attempt.")
_OLDEST = gauge("wearon_webhook_oldest_age_seconds", "Age of the oldest callback that waits.")
_OVERDUE = gauge("wearon_webhook_overdue_seconds", "For how long an attempt could have been made and was not.")
_ENDPOINTS = gauge(
    "wearon_webhook_endpoints", "Endpoints of all stores.", ("state",), ("enabled", "failing", "disabled")
)


def show(state: State) -> None:
    """Set the gauges."""
    _OLDEST.set(state.oldest_seconds)
    _OVERDUE.set(state.overdue_seconds)
    for name in ("enabled", "failing", "disabled"):
        _ENDPOINTS.labels(name).set(getattr(state, name))
