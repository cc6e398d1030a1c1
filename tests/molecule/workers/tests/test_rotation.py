"""Secrets that change later: nothing in flight is lost, the old ones stop working, on both hosts."""

import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import testinfra

from tests.molecule.hosts import Played, StackRedis
from tests.sandbox.producer import Producer
from tests.sandbox.records import Records
from tests.sandbox.remote import OpenAIRemote

FIRST, SECOND = testinfra.get_host("docker://first"), testinfra.get_host("docker://second")
OLD, NEW = "workers-workers-workers-workers", "rotated-rotated-rotated-rotated"
KEYS = "/home/deploy/.ssh/authorized_keys"
MARKER = "while secrets change"


@pytest.fixture
def slow_generations(sandbox: dict[str, str]) -> Iterator[None]:
    """Those with MARKER in their prompt take long enough to be in flight meanwhile."""
    address = urlsplit(sandbox["openai_url"])
    openai = OpenAIRemote(f"{address.scheme}://{address.netloc}")
    rule = openai.fault("slow", contains=MARKER, delay=40)
    yield
    openai.clear(rule)


def login(password: str) -> str:
    """The answer of Redis to this password."""
    return str(FIRST.check_output(f"docker exec -e REDISCLI_AUTH={password} wearon-redis-1 redis-cli ping 2>&1"))


@pytest.mark.usefixtures("slow_generations")
def test_new_password_and_removed_key_cost_nothing(
    play: Callable[..., Played], records: Records, sandbox: dict[str, str]
) -> None:
    photos = [f"{sandbox['photos_url']}/{name}.jpg" for name in ("person", "garment")]
    producer = Producer(records.database, StackRedis(FIRST), photos)  # type: ignore[arg-type]
    queued = [producer.b2c(prompt=f"{MARKER} {number}") for number in range(6)]
    broker = FIRST.check_output("docker inspect -f '{{.State.StartedAt}}' wearon-redis-1")
    FIRST.check_output(f"echo 'ssh-ed25519 AAAAformer former@example.test' >> {KEYS}")

    run = play("site", "-e", json.dumps({"redis_password": NEW}))
    assert run.code == 0, run.text

    queued += [producer.b2c() for _ in range(2)]
    for one in queued:
        session = records.settled("b2c", one.session_id, timeout=180)
        assert session["status"] == "completed", session["error_message"]
        assert records.balance_changes(one.owner_id) == [10, -1]
    assert "former@example.test" not in FIRST.file(KEYS).content_string
    assert "PONG" in login(NEW)
    assert "WRONGPASS" in login(OLD)
    assert FIRST.check_output("docker inspect -f '{{.State.StartedAt}}' wearon-redis-1") == broker
    for host in (FIRST, SECOND):
        log = host.check_output("docker ps -q --filter name=worker | xargs -n 1 docker logs 2>&1")
        assert not re.search("WRONGPASS|NOAUTH|invalid username-password", log)


def test_same_again_changes_nothing(play: Callable[..., Played]) -> None:
    run = play("site", "-e", json.dumps({"redis_password": NEW}))
    assert (run.code, run.changed) == (0, 0), run.text
