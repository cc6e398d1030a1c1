"""A managed Redis: TLS, a user with a password, few commands beside those for data, and a bill for each command."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from tests import command
from tests.bench.commands import Commands
from tests.integration.conftest import QUICK, Ended
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from tests.sandbox.proxy import Proxy
from worker.doctor.broker_trial import refused_events

PASSWORD = "p@ss/word:1"
#: As Upstash and the like: no INFO, CONFIG, KEYS or ACL, no word about clients, and here not even EVALSHA.
RULES = ["~wearon:*", "+@all", "-@admin", "-@dangerous", "-client", "-script", "-evalsha"]
#: Commands in a second; the target is 1.5, and a busy machine has shifted moments only.
REST_LIMIT = 2.5


@pytest.fixture
def managed(world: Sandbox) -> Iterator[dict[str, str]]:
    """The environment of a worker on such a service, which has an authority of its own."""
    world.reset()
    world.redis.execute_command("ACL", "SETUSER", "shop", "reset", "on", f">{PASSWORD}", *RULES)
    with Proxy(world.valkey.port, tls=True) as proxy:
        address = f"rediss://shop:{quote(PASSWORD, safe='')}@127.0.0.1:{proxy.port}/0"
        yield {"REDIS_URL": f"{address}?ssl_ca_certs={proxy.ca_file}"}
    world.redis.execute_command("ACL", "DELUSER", "shop")


def test_the_worker_needs_only_what_a_managed_redis_offers(
    world: Sandbox, managed: dict[str, str], ended: Ended, marker: str
) -> None:
    world.redis.execute_command("ACL", "LOG", "RESET")
    with WorkerProcess(world, **QUICK, **managed) as worker:
        world.openai.fault("moderation_blocked", contains="blocked")
        queued = [world.producer.b2c(prompt=marker), world.producer.b2c(prompt="blocked")]
        assert [ended(it)["status"] for it in queued] == ["completed", "failed"]
        assert "wearon_queue_messages 0" in HTTP.get(f"{worker.url}/metrics", timeout=5).text
        wait_for(lambda: worker.health()["status"] == "ok", 20, lambda: str(worker.health()))
        # Twice, so that the lock and every script have been used.
        wait_for(lambda: len(worker.logs("audit_ended")) > 0, 20, "no audit")
        assert worker.stop() == 0
        assert not [line for line in worker.logs() if line["level"] in ("error", "critical")]
    refused = {entry["object"] for entry in world.redis.acl_log()}
    # Conveniences: the client's name, a script's digest, and events for celery-exporter.
    assert {it for it in refused if "celeryev" not in it} <= {"client|setinfo", "evalsha"}


def test_the_doctor_passes_a_managed_redis_with_warnings(world: Sandbox, managed: dict[str, str]) -> None:
    told = command.run({**world.env(), **managed}, "doctor").stdout
    lines = [line.split() for line in told.splitlines() if " redis" in line]
    assert {line[0] for line in lines} == {"warn"}, told


def test_the_doctor_misses_each_right_that_the_documentation_asks_for_celery_exporter(world: Sandbox) -> None:
    text = (Path(__file__).parents[2] / "docs/deploy.md").read_text()
    rights = re.search(r"celery-exporter also the keys `(.+)` and the channels\n`(.+)`, where 0", text)
    assert rights
    rules = [*rights[1].split(), *rights[2].split()]

    async def refused(*given: str) -> bool:
        world.redis.execute_command("ACL", "SETUSER", "shop", "reset", "on", ">x", *RULES, *given)
        async with Redis(port=world.valkey.port, username="shop", password="x") as client:
            return await refused_events(client)

    assert not asyncio.run(refused(*rules))
    for missing in rules:
        assert asyncio.run(refused(*(rule for rule in rules if rule != missing))), missing
    world.redis.execute_command("ACL", "DELUSER", "shop")


def test_scripts_touch_only_the_keys_that_they_declare(world: Sandbox) -> None:
    """A service that spreads keys over servers refuses all others."""
    world.reset()
    with Commands(world.valkey.port) as commands, WorkerProcess(world, **QUICK) as worker:
        world.openai.fault("moderation_blocked", contains="blocked")
        queued = [world.producer.b2c(), world.producer.b2c(prompt="blocked")]
        world.redis.lpush("wearon:tasks:generation", "no message")
        for item in queued:
            world.settled("b2c", item.session_id)
        HTTP.get(f"{worker.url}/metrics", timeout=5).raise_for_status()
        assert worker.stop() == 0
    assert commands.scripts > 10
    assert commands.undeclared == set()


def test_an_idle_worker_sends_few_commands(world: Sandbox) -> None:
    world.reset()
    with WorkerProcess(world, WORKER_CONCURRENCY="5") as worker, Commands(world.valkey.port) as commands:
        wait_for(lambda: worker.health()["status"] == "ok", 20, lambda: str(worker.health()))
        time.sleep(5)  # the start's own commands

        def rest() -> None:
            for _ in range(10):
                worker.health()
                time.sleep(2)
            HTTP.get(f"{worker.url}/metrics", timeout=5).raise_for_status()

        count = commands.during(rest)
    assert 0 < count.sent / count.seconds < REST_LIMIT, count.by_command()
    assert count.all / count.seconds < 2 * REST_LIMIT


def test_a_generation_sends_at_most_forty_commands(world: Sandbox) -> None:
    world.reset()
    with WorkerProcess(world, **QUICK) as worker, Commands(world.valkey.port) as commands:
        wait_for(lambda: worker.health()["status"] == "ok", 20, lambda: str(worker.health()))

        def generate() -> None:
            for item in [world.producer.b2c() for _ in range(20)]:
                assert world.settled("b2c", item.session_id)["status"] == "completed"

        count = commands.during(generate)
    assert count.sent / 20 < 40, count.by_command()
