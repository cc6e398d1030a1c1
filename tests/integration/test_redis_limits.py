"""A Redis without room, and a second Redis beside the one that the producers use."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import OutOfMemoryError

from tests.integration.conftest import QUICK
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.valkey import Valkey

#: The heartbeat, by which a full Redis is noticed, comes three times in a lease.
SETTINGS = {**QUICK, "LEASE_SECONDS": "9", "GENERATION_TIMEOUT_SECONDS": "60", "FETCH_TIMEOUT_SECONDS": "30"}


@pytest.fixture
def full(world: Sandbox) -> Iterator[Sandbox]:
    """The world, whose Redis is given its limit by the test."""
    world.reset()
    world.openai.set(compose=False)
    yield world
    world.redis.config_set("maxmemory", 0)


def fill(world: Sandbox) -> None:
    """Leave no room: 50 kB more are used than may be."""
    world.redis.config_set("maxmemory", world.redis.info("memory")["used_memory"] - 50_000)
    with pytest.raises(OutOfMemoryError):
        world.redis.lpush("wearon:tasks:generation", "refused")


def test_a_full_redis_is_drained_by_running_and_by_new_workers(full: Sandbox) -> None:
    full.redis.set("wearon:intake:stopped", "maintenance")
    with WorkerProcess(full, **SETTINGS) as worker:
        queued = [full.producer.b2c(prompt="x" * 1500) for _ in range(60)]
        refused = full.producer.b2c(prompt="refused", images=["not an address"])
        full.redis.lpush("wearon:tasks:generation", "no message")
        fill(full)
        full.redis.delete("wearon:intake:stopped")
        half = lambda: full.redis.llen("wearon:tasks:generation") <= 30  # noqa: E731
        wait_for(half, 60, "it does not drain")
        sentence = wait_for(lambda: worker.health()["redis_full"], 10, "/health does not say that Redis is full")
        assert "maxmemory" in sentence
        assert worker.health()["status"] == "degraded"
        assert worker.stop() == 0
    with WorkerProcess(full, **SETTINGS) as worker:
        assert {full.settled("b2c", each.session_id)["error_message"] for each in queued} == {None}
        assert full.settled("b2c", refused.session_id)["status"] == "failed"
        assert full.balance_changes(refused.owner_id) == [10, -1, 1]
        assert full.redis.llen("wearon:tasks:generation:dead") == 1
        full.redis.config_set("maxmemory", 0)
        wait_for(lambda: worker.health()["status"] == "ok", 10, lambda: str(worker.health()))
        assert worker.health()["redis_full"] is None
        assert not worker.logs("consumer_backed_off")
        assert not worker.logs("heartbeat_failed")


def test_refunds_and_pictures_wait_in_a_full_redis_for_a_database_that_is_away(full: Sandbox) -> None:
    with WorkerProcess(full, **SETTINGS) as worker:
        failing, fine = full.producer.b2c(images=[full.photos.url("missing.jpg")]), full.producer.b2c()
        for operation in ("rpc/fail_generation", "rpc/complete_generation"):
            full.gateway.fault("unavailable", on=operation)
        fill(full)
        wait_for(lambda: full.redis.hlen("wearon:settlements") == 2, 30, "the outcomes are not kept")
        worker.kill()
    with WorkerProcess(full, **SETTINGS):
        full.gateway.clear()
        assert full.settled("b2c", failing.session_id)["status"] == "failed"
        assert full.settled("b2c", fine.session_id)["status"] == "completed"
        assert full.balance_changes(failing.owner_id) == [10, -1, 1]
        assert full.balance_changes(fine.owner_id) == [10, -1]
        assert len(full.calls()) == 1


def test_a_worker_with_another_redis_leaves_sessions_alone(world: Sandbox, tmp_path: Path) -> None:
    world.reset()
    world.openai.set(compose=False, latency=6)
    world.redis.set("wearon:intake:stopped", "maintenance")
    second = Valkey(tmp_path)
    second.start()
    try:
        with WorkerProcess(world, **SETTINGS) as first, WorkerProcess(world, REDIS_URL=second.url, **SETTINGS) as other:
            working = world.producer.b2c()
            world.redis.delete("wearon:intake:stopped")
            processing = lambda: world.session("b2c", working.session_id)["status"] == "processing"  # noqa: E731
            wait_for(processing, 20, "it is not taken")
            world.redis.set("wearon:intake:stopped", "maintenance")
            # A blocking pop that was on its way has ended by then.
            wait_for(lambda: first.health()["intake_paused"], 10, "it is not paused")
            waiting = world.producer.b2c()
            world.database.execute("update generation_sessions set created_at = now() - interval '9 minutes'")
            assert world.settled("b2c", working.session_id)["status"] == "completed"
            assert world.session("b2c", waiting.session_id)["status"] == "queued"
            assert not other.logs("stuck_session_found")
            assert not first.logs("stuck_session_found")
    finally:
        second.kill()
