"""Prometheus metrics of the container, on its internal GET /metrics (nginx does not publish it).

What is in Redis is the same for every instance: take `max()` over them.
"""

import json
import time

from prometheus_client import Gauge
from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.audit import Report

_AUDIT_DRIFT = Gauge("wearon_audit_drift_credits", "Credits that are not where they belong, at the last audit.")
_AUDIT_TIME = Gauge("wearon_audit_timestamp_seconds", "When the last audit ended (Unix time); 0: never.")
_QUEUED = Gauge("wearon_queue_messages", "Messages on the producers' list.")
_DEAD = Gauge("wearon_dead_letters", "Messages that could not be used and are kept.")
_DEAD_DROPPED = Gauge("wearon_dead_letters_dropped", "Dead letters that had to make room for newer ones.")
_WAITING = Gauge("wearon_settlements_waiting", "Outcomes that the database does not have yet.")
_INTAKE_PAUSED = Gauge("wearon_intake_paused", "1 while nothing is taken from the queue, because OpenAI has no quota.")


async def keep_audit(redis: Redis, report: Report) -> None:
    """Make an audit's result known to every instance."""
    await redis.set(keys.AUDIT, json.dumps({"drift": report.drift, "time": time.time()}))


async def refresh(redis: Redis) -> None:
    """Read from Redis what the gauges show."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.get(keys.AUDIT)
        pipe.llen(keys.QUEUE)
        pipe.llen(keys.DEAD)
        pipe.get(keys.DEAD_DROPPED)
        pipe.hlen(keys.SETTLEMENTS)
        pipe.exists(keys.INTAKE_PAUSED)
        audit, queued, dead, dropped, waiting, paused = await pipe.execute()
    last = json.loads(audit) if audit else {"drift": 0, "time": 0}
    _AUDIT_DRIFT.set(last["drift"])
    _AUDIT_TIME.set(last["time"])
    _QUEUED.set(queued)
    _DEAD.set(dead)
    _DEAD_DROPPED.set(int(dropped or 0))
    _WAITING.set(waiting)
    _INTAKE_PAUSED.set(paused)
