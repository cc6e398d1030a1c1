"""Stands in for danihodovic/celery-exporter, which PyPI does not have: Celery's real events from the real broker, under
the names of that program's metrics. As the real one it hands its TLS option to redis-py, prints the variables of a
traceback unless LOGURU_DIAGNOSE is switched off, and ends in order on SIGINT only."""

import os
import signal
import sys
import threading
import time
from typing import Any

from celery import Celery
from prometheus_client import Counter, Gauge, Histogram, start_http_server

LABELS = ["name", "hostname", "queue_name"]
COUNTERS = {
    kind: Counter(f"celery_task_{kind}", f"Tasks {kind}", [*LABELS, "exception"] if kind == "failed" else LABELS)
    for kind in ("sent", "received", "started", "succeeded", "failed", "rejected", "revoked", "retried")
}
BUCKETS = [float(bucket) for bucket in os.environ["CE_BUCKETS"].split(",")]
RUNTIME = Histogram("celery_task_runtime", "Run time of tasks that succeeded", LABELS, buckets=BUCKETS)
UP = Gauge("celery_worker_up", "Whether a worker has sent a heartbeat", ["hostname"])
ACTIVE = Gauge("celery_worker_tasks_active", "Tasks that a worker works on", ["hostname"])
TIMEOUT = float(os.environ["CE_WORKER_TIMEOUT"])
seen: dict[str, float] = {}

app = Celery(broker=os.environ["CE_BROKER_URL"])
if option := os.environ.get("CE_BROKER_SSL_OPTION"):
    app.conf["broker_use_ssl"] = dict([option.split("=", 1)])
state = app.events.State()


def take(event: dict[str, Any]) -> None:
    state.event(event)
    hostname = event["hostname"].partition("@")[2]
    group, _, kind = event["type"].partition("-")
    if group == "worker":
        seen[hostname] = time.time()
        UP.labels(hostname).set(kind != "offline")
        ACTIVE.labels(hostname).set(event.get("active") or 0)
    elif kind in COUNTERS:
        task = state.tasks.get(event["uuid"])
        labels = [task.name or "", hostname, "celery"]
        COUNTERS[kind].labels(*labels, *(["UnknownException"] if kind == "failed" else [])).inc()
        if kind == "succeeded":
            RUNTIME.labels(*labels).observe(event["runtime"])


def forget() -> None:
    while True:
        time.sleep(5)
        for hostname, when in seen.items():
            if time.time() - when > TIMEOUT:
                UP.labels(hostname).set(0)


signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, lambda *_: sys.exit())
start_http_server(9808)
threading.Thread(target=forget, daemon=True).start()
while True:
    try:
        with app.connection() as connection:
            app.events.Receiver(connection, handlers={"*": take}).capture(limit=None, timeout=None, wakeup=True)
    except Exception as error:
        print(f"celery-exporter exception '{error}'", flush=True)
        if os.environ.get("LOGURU_DIAGNOSE") != "NO":
            print({"broker_url": app.conf.broker_url}, flush=True)
        time.sleep(float(os.environ["CE_RETRY_INTERVAL"]))
