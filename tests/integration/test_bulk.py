"""Bulk in a running worker: others have its slots before its paid call, and nothing of it is lost or paid twice."""

import time
from pathlib import Path
from typing import Any

from tests.integration.conftest import QUICK
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from worker.generation import keys

PERSON = Path(__file__).parents[1] / "sandbox/photos/pictures/person.jpg"
#: A photo takes so long.
SECONDS = 4.0
SETTINGS = {
    **QUICK,
    "WORKER_CONCURRENCY": "2",
    "BULK_SHARE": "1",
    "FETCH_TIMEOUT_SECONDS": "30",
    "GENERATION_TIMEOUT_SECONDS": "60",
}


def test_a_shopper_has_the_slot_of_bulk_that_has_paid_for_nothing(world: Sandbox) -> None:
    world.reset()
    slow = world.photos.put("slow.jpg", PERSON.read_bytes(), delay=SECONDS)
    with WorkerProcess(world, **SETTINGS) as worker:
        store = world.producer.store()
        more: dict[str, Any] = {"images": [slow], "priority": "bulk"}
        bulk = [world.producer.b2b(store, prompt=f"bulk {number}.", **more) for number in range(3)]
        wait_for(lambda: len(worker.logs("generation_started")) == 2, 20, "bulk does not start")
        shopper = world.producer.b2c(prompt="shopper.")
        assert world.settled("b2c", shopper.session_id)["status"] == "completed"
        (preempted,) = worker.logs("generation_preempted")
        for item in bulk:
            assert world.settled("b2b", item.session_id)["status"] == "completed"
        starts = [line["session_id"] for line in worker.logs("generation_started", starts=1)]
        page = HTTP.get(f"{worker.url}/metrics", timeout=5).text
        assert worker.stop() == 0
    # At the front of its lane again: before the one that had not started yet.
    assert starts.index(bulk[2].session_id) > max(
        place for place, session_id in enumerate(starts) if session_id == preempted["session_id"]
    )
    assert sorted(starts) == sorted([*(it.session_id for it in (*bulk, shopper)), preempted["session_id"]])
    assert sorted(call.prompt for call in world.calls()) == ["bulk 0.", "bulk 1.", "bulk 2.", "shopper."]
    assert next(call.prompt for call in world.calls()) == "shopper."
    assert 'wearon_generations_requeued_total{reason="preempted"} 1.0' in page
    assert 'wearon_bulk_generations_total{outcome="completed"} 3.0' in page
    assert world.redis.exists("wearon:lanes:bulk") == 0


def test_bulk_that_waits_for_the_calls_of_others_does_not_hold_up_a_drain(world: Sandbox) -> None:
    world.reset()
    seconds, _ = world.redis.time()
    world.redis.zadd(keys.LIMITER, {f"other {number}": (seconds + 20) * 1e6 for number in range(10)})
    with WorkerProcess(world, **SETTINGS, OPENAI_REQUESTS_PER_MINUTE="10") as worker:
        bulk = world.producer.b2b(world.producer.store(), priority="bulk")
        wait_for(lambda: worker.health()["parts"]["celery"]["active"], 20, "bulk is not taken")
        began_at = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began_at < 20
    assert world.session("b2b", bulk.session_id)["status"] == "queued"
    assert world.redis.llen(keys.QUEUE) == 1
    assert not world.calls()
