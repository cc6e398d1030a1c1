"""Metrics of this container's build and health, looked up at the scrape; known to the supervisor only."""

import os
from collections.abc import Callable

from prometheus_client import PlatformCollector, ProcessCollector

from worker import __version__
from worker.generation.metrics import SLOTS
from worker.health import Health
from worker.metrics import REGISTRY, gauge
from worker.settings import Settings

_BUILD = gauge("wearon_build_info", "Always 1.", ("version", "commit"))
_READY = gauge("wearon_ready", "1 while new work may be sent here.")
_HEALTHY = gauge("wearon_healthy", "1 while GET /health says ok.")
_DRAINING = gauge("wearon_draining", "1 while it finishes what runs before it stops.")
_UP = gauge("wearon_dependency_up", "1 while it does its work.", ("dependency",), ("redis", "database", "model"))
_LIMIT = gauge("wearon_openai_limit_per_minute", "Calls that the whole account may make within a minute.")


def watch(settings: Settings, health: Health, celery_pid: Callable[[], int]) -> None:
    """Show the state of this container's parts."""
    # The image says what it was built from.
    _BUILD.labels(os.environ.get("WEARON_VERSION") or __version__, os.environ.get("WEARON_COMMIT") or "unknown").set(1)
    SLOTS.set(settings.slots)
    _LIMIT.set(settings.openai_requests_per_minute)
    _READY.set_function(health.ready)
    _HEALTHY.set_function(lambda: health.report()["status"] == "ok")
    _DRAINING.set_function(lambda: health.state == "draining")
    _UP.labels("database").set_function(lambda: health.database_connected)
    _UP.labels("model").set_function(lambda: health.model_loaded)
    ProcessCollector(registry=REGISTRY)
    PlatformCollector(registry=REGISTRY)
    ProcessCollector(namespace="wearon_celery", pid=celery_pid, registry=REGISTRY)


def redis_answered(answered: bool) -> None:
    """Note if the values in Redis could be read for this scrape."""
    _UP.labels("redis").set(answered)
