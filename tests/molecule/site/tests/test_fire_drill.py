"""Things are broken for real; the rules that production has fire in time, and the server is whole again afterwards."""

import re
import time
from collections.abc import Callable

from testinfra.host import Host

from tests.alerts.promtool import BUDGET
from tests.molecule.hosts import SERVICES, Played


def test_outages_fire_in_time_and_are_repaired(server: Host, play: Callable[..., Played]) -> None:
    """The others of playbooks/fire_drill.yml take longer; docs/runbook.md says what they took."""
    played = play("fire_drill", "-e", "drill=redis,worker", "-e", "yes=true")
    assert played.code == 0, played.text
    took = {rule: int(seconds) for rule, seconds in re.findall(r"\b(redis-down|worker-down) +(\d+)", played.text)}
    assert took.keys() == {"redis-down", "worker-down"}
    assert max(took.values()) <= BUDGET
    names = "docker ps --filter health=healthy --format '{{.Label \"com.docker.compose.service\"}}'"
    end = time.monotonic() + 60
    while set(server.check_output(names).split()) != SERVICES:
        assert time.monotonic() < end, "not everything is healthy again"
        time.sleep(1)
    assert not server.run("systemctl is-active wearon-drill.timer").succeeded


def test_nothing_is_broken_without_a_yes_or_a_name(play: Callable[..., Played]) -> None:
    refused = play("fire_drill", "-e", "drill=redis")
    assert refused.code != 0
    assert "Nothing was broken" in refused.text
    unknown = play("fire_drill", "-e", "drill=flood", "-e", "yes=true")
    assert "There is no drill flood; there are redis, worker" in unknown.text
