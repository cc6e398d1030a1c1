"""Requests to the size API by what became of them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import get_args

from worker.errors import ImageInvalid, ImageRefused, ImageTooLarge, ImageUnavailable
from worker.metrics import counter, gauge, histogram
from worker.sizing.answers import Reason

_UNUSABLE = tuple(kind.reason for kind in (ImageRefused, ImageUnavailable, ImageTooLarge, ImageInvalid))
_OTHER_OUTCOMES = (
    "completed",
    "invalid",
    "saturated",
    "timeout",
    "starting",
    "failed",
    "aborted",
    "key_unknown",
    "key_limited",
)
_STEPS = ("fetch", "wait", "inference")
#: The promise is 3 s for 95 of 100; a request ends after 4.5 s.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 10)

_REQUESTS = counter(
    "wearon_sizing_requests_total",
    "Requests to /estimate-body.",
    ("outcome", "reason"),
    (
        *(("refused", reason) for reason in get_args(Reason)),
        *(("unusable", reason) for reason in _UNUSABLE),
        *((outcome, "none") for outcome in _OTHER_OUTCOMES),
    ),
)
_STEP_SECONDS = histogram("wearon_sizing_step_seconds", "Time of one step.", _SECONDS, ("step",), _STEPS)
_PENDING = gauge("wearon_sizing_pool_pending", "Requests that wait or are measured now.")
_LIMIT = gauge("wearon_sizing_pool_limit", "How many may wait or be measured at once.")
_DELEGATE = gauge(
    "wearon_sizing_delegate", "1 for the processor that runs the pose model.", ("delegate",), ("cpu", "gpu")
)


def ended(outcome: str, reason: str = "none") -> None:
    """Count a request that has its answer."""
    _REQUESTS.labels(outcome, reason).inc()


def step(name: str) -> AbstractContextManager[object]:
    """Time one step, also when it fails."""
    return _STEP_SECONDS.labels(name).time()


def waited(seconds: float) -> None:
    """Observe how long a request has waited for a free thread."""
    _STEP_SECONDS.labels("wait").observe(seconds)


def watch_pool(pending: Callable[[], int], limit: int) -> None:
    """Show how full the pool is."""
    _PENDING.set_function(pending)
    _LIMIT.set(limit)


def delegate(chosen: str) -> None:
    """Note the processor that the pose model runs on."""
    for name in ("cpu", "gpu"):
        _DELEGATE.labels(name).set(name == chosen)
