"""The second host leaves. The tests of this file are the last ones: the host does not come back."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.molecule.hosts import Played, docker
from tests.molecule.workers.tests.conftest import FIRST, NEW, SECOND
from tests.sandbox.producer import Producer

REMOVAL = json.dumps({"host": "second", "managed_password": NEW})
MARKER = "while the second host leaves"


def instances() -> list[str]:
    worker = FIRST.check_output("docker ps --quiet --filter label=wearon.colour --filter status=running")
    answer = FIRST.check_output(f"docker exec {worker} python3 -m worker queue --json")
    return [one["name"] for one in json.loads(answer)["instances"]]


def test_host_that_leaves_costs_no_message_and_leaves_nothing(
    play: Callable[..., Played], producer: Producer, slow: Callable[..., Any], paid_once: Callable[..., None]
) -> None:
    slow(MARKER, 20)
    queued = [producer.b2c(prompt=f"{MARKER} {number}") for number in range(8)]

    run = play("remove_worker", "-e", REMOVAL)

    assert run.code == 0, run.text
    assert "Redis has nothing of second any more" in run.text
    paid_once(queued)
    assert all("-first-" in name for name in instances())
    assert SECOND.check_output("docker ps --all --quiet") == ""
    assert FIRST.run("grep -r second /opt/wearon/nginx/upstreams/worker /opt/wearon/prometheus/targets.d").stdout == ""
    second = docker("inspect", "-f", "{{.NetworkSettings.Networks.testbed.IPAddress}}", "second")
    assert second not in FIRST.check_output("nft list ruleset")


@pytest.mark.chaos_full
def test_removal_of_a_dead_host_changes_nothing_more(play: Callable[..., Played]) -> None:
    docker("pause", "second")
    try:
        run = play("remove_worker", "-e", REMOVAL)
    finally:
        docker("unpause", "second")
    assert (run.code, run.changed) == (0, 0), run.text
    assert "second does not answer: nothing was stopped there" in " ".join(run.text.split())
    assert "Delete second from group" in run.text
