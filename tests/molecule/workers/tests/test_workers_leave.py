"""The second host leaves. The tests of this file are the last ones: the host does not come back."""

import json
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import testinfra

from tests.molecule.hosts import Played, StackRedis, docker
from tests.sandbox.producer import Producer
from tests.sandbox.records import Records
from tests.sandbox.remote import OpenAIRemote

FIRST, SECOND = testinfra.get_host("docker://first"), testinfra.get_host("docker://second")
#: The password of test_rotation.
REMOVAL = json.dumps({"host": "second", "redis_password": "rotated-rotated-rotated-rotated"})
MARKER = "while the second host leaves"


@pytest.fixture
def slow_generations(sandbox: dict[str, str]) -> Iterator[None]:
    """Those with MARKER in their prompt are in flight when the host leaves."""
    address = urlsplit(sandbox["openai_url"])
    openai = OpenAIRemote(f"{address.scheme}://{address.netloc}")
    rule = openai.fault("slow", contains=MARKER, delay=20)
    yield
    openai.clear(rule)


def instances() -> list[str]:
    worker = FIRST.check_output("docker ps --quiet --filter label=wearon.colour --filter status=running")
    answer = FIRST.check_output(f"docker exec {worker} python3 -m worker queue --json")
    return [one["name"] for one in json.loads(answer)["instances"]]


@pytest.mark.usefixtures("slow_generations")
def test_host_that_leaves_costs_no_message_and_leaves_nothing(
    play: Callable[..., Played], records: Records, sandbox: dict[str, str]
) -> None:
    photos = [f"{sandbox['photos_url']}/{name}.jpg" for name in ("person", "garment")]
    producer = Producer(records.database, StackRedis(FIRST), photos)  # type: ignore[arg-type]
    queued = [producer.b2c(prompt=f"{MARKER} {number}") for number in range(8)]

    run = play("remove_worker", "-e", REMOVAL)

    assert run.code == 0, run.text
    assert "Redis has nothing of second any more" in run.text
    for one in queued:
        session = records.settled("b2c", one.session_id, timeout=120)
        assert session["status"] == "completed", session["error_message"]
        assert records.balance_changes(one.owner_id) == [10, -1]
    assert all("-first-" in name for name in instances())
    assert SECOND.check_output("docker ps --all --quiet") == ""
    assert FIRST.run("grep -r second /opt/wearon/nginx/upstreams/worker /opt/wearon/prometheus/targets.d").stdout == ""
    second = docker("inspect", "-f", "{{.NetworkSettings.Networks.testbed.IPAddress}}", "second")
    assert second not in FIRST.check_output("nft list ruleset")


def test_removal_of_a_dead_host_changes_nothing_more(play: Callable[..., Played]) -> None:
    docker("pause", "second")
    try:
        run = play("remove_worker", "-e", REMOVAL)
    finally:
        docker("unpause", "second")
    assert (run.code, run.changed) == (0, 0), run.text
    assert "second does not answer: nothing was stopped there" in " ".join(run.text.split())
    assert "Delete second from group" in run.text
