"""A service is broken for real; the rule that production has fires in time, and the server is whole again."""

import re
import time
from collections.abc import Callable

from testinfra.host import Host

from tests.alerts.promtool import BUDGET
from tests.molecule.hosts import SERVICES, Played


def test_outage_fires_in_time_and_is_repaired(server: Host, play: Callable[..., Played]) -> None:
    """The quickest but one. docs/runbook.md says what all took, tests/alerts/test_rules.py holds their times."""
    played = play("fire_drill", "-e", "drill=redis", "-e", "yes=true")
    assert played.code == 0, played.text
    (took,) = re.findall(r"\bredis-down +(\d+)", played.text)
    assert int(took) <= BUDGET
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
