"""A Redis that is there and takes no writes: a failover, a replica, a server without its replicas or its disk."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.conftest import QUICK
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.proxy import Proxy
from tests.sandbox.valkey import Valkey
from worker.generation import keys


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Valkey]:
    """A second server."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def address(world: Sandbox) -> Iterator[Proxy]:
    """The name of the primary: connections stay where they are, new ones go where the name points."""
    world.reset()
    with Proxy(world.valkey.port) as proxy:
        yield proxy
    world.redis.replicaof("NO", "ONE")


def test_a_failover_costs_no_message_and_no_restart(world: Sandbox, address: Proxy, other: Valkey) -> None:
    with WorkerProcess(world, **QUICK, REDIS_URL=f"redis://127.0.0.1:{address.port}/0") as worker:
        assert world.settled("b2c", world.producer.b2c().session_id)["status"] == "completed"
        world.openai.set(latency=3)
        running = world.producer.b2c()
        wait_for(lambda: world.openai.summary()["in_flight"] == 1, 10, "no call")
        new = redis.Redis.from_url(other.url, decode_responses=True)
        new.replicaof("127.0.0.1", world.valkey.port)
        wait_for(lambda: new.info("replication").get("master_link_status") == "up", 20, "not replicated")
        new.replicaof("NO", "ONE")
        address.target = other.port
        world.redis.replicaof("127.0.0.1", other.port)
        late = world.producer.b2c(push=False)
        new.lpush(keys.QUEUE, json.dumps(late.message))
        assert world.settled("b2c", running.session_id, 40)["status"] == "completed"
        assert world.settled("b2c", late.session_id, 40)["status"] == "completed"
        wait_for(lambda: worker.health()["status"] == "ok", 20, lambda: str(worker.health()))
        assert worker.process.poll() is None
        assert not [line for line in worker.logs() if line["level"] == "critical"]
        assert new.llen(keys.QUEUE) == 0
    world.openai.set(latency=0)


def test_a_replica_is_named_in_health_and_log_until_it_is_a_primary_again(
    world: Sandbox, address: Proxy, other: Valkey
) -> None:
    with WorkerProcess(world, **QUICK, REDIS_URL=f"redis://127.0.0.1:{address.port}/0") as worker:
        world.redis.replicaof("127.0.0.1", other.port)
        wait_for(lambda: not worker.health()["redis_connected"], 20, lambda: str(worker.health()))
        wait_for(lambda: "read-only replica" in str(worker.health()["redis_problem"]), 10, lambda: str(worker.health()))
        assert worker.logs("redis_lost")
        world.redis.replicaof("NO", "ONE")
        assert world.settled("b2c", world.producer.b2c().session_id, 40)["status"] == "completed"
        wait_for(lambda: worker.health()["redis_problem"] is None, 20, lambda: str(worker.health()))
        assert worker.logs("redis_recovered")
