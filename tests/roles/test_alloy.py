"""Alloy's configuration in the languages that only a running Alloy reads, and the list of log files."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.roles.conftest import Rendered
from tests.testbed.standins.alloy_language import attributes, problems, selector_problem


@pytest.fixture
def config(rendered: Rendered) -> str:
    return (rendered.folder / "alloy/conf/config.alloy").read_text()


def test_running_alloy_builds_every_stage(config: str) -> None:
    assert {block for block, name, _ in attributes(config) if name in {"selector", "expression"}} == {
        "stage.match",
        "stage.drop",
    }
    assert problems(config) == []


@pytest.mark.parametrize("broken", ["logging {", "logging {}\n}", 'logging {\n level = "}"\n'])
def test_brace_without_the_other_one_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match="braces"):
        problems(broken)


@pytest.mark.parametrize(
    ("selector", "accepted"),
    [
        ('{service="a"}', True),
        ('{service="a", level!~"b|c"} |= "x" != "y" |~ "z+" !~ "\\\\[a\\\\]"', True),
        ('{service="a"} !~ `^x`', False),
        ("{service=`a`}", False),
        ("{service='a'}", False),
        ('{service="a"} !~ "\\["', False),
        ('{service="a"} | json', False),
        ('{service-name="a"}', False),
        ('{service="a"} |~ "(?=b)"', False),
        ('{service="a"} |~ "("', False),
        ("{}", False),
        ("", False),
    ],
)
def test_selector_is_that_of_alloy_and_not_of_loki(selector: str, accepted: bool) -> None:
    assert (selector_problem(selector) is None) is accepted


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("2026/11/25 10:00:00 failed to send user message to 49170: no session", True),
        ("2026/11/25 10:00:00 failed to send group message to 1203: timeout", True),
        ("2026/11/25 10:00:00 Login event: success", True),
        ("Starting server on :8080", True),
        ("\x1b[31m10:00:00.123 [Client ERROR] websocket closed\x1b[0m", True),
        ("2026/11/25 10:00:00 POST /whatsapp/send/grafana-alert/user/49170 200 1.2ms", False),
        ('{"event": "message_failed", "level": "error"}', True),
        ("2026/11/25 10:00:00 Received a message:  see you at eight", False),
        ("and bring the keys", False),
        ("2026/11/25 10:00:00 Name:  The family", False),
        ("2026/11/25 10:00:00 Jid:  12036304@g.us", False),
        ("\x1b[36m10:00:00.123 [Client INFO] Got message from Anna\x1b[0m", False),
    ],
)
def test_only_the_bridges_own_statements_are_kept(config: str, line: str, kept: bool) -> None:
    (selector,) = [value for block, name, value in attributes(config) if (block, name) == ("stage.match", "selector")]
    pattern = re.fullmatch(r'\{service="whatsapp-bridge"\} !~ "(.*)"', selector)
    assert pattern
    assert bool(re.search(pattern[1].replace("\\\\", "\\"), line)) is kept


def test_lines_get_the_labels_that_are_documented(config: str) -> None:
    assert re.search(r'stage\.label_keep \{\s+values = \["service", "level"\]', config)
    assert 'values = {request_id = "", session_id = "", channel = "", event = ""}' in config
    assert re.search(r'external_labels = \{host = "[\w-]+"\}', config)


@pytest.fixture
def list_logs(rendered: Rendered, tmp_path: Path) -> Callable[[str], int]:
    """Run the script with an engine that does this; return its exit status."""
    (rendered.folder / "alloy/targets.d").mkdir(exist_ok=True)

    def run(engine: str) -> int:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{engine}\n")
        (tmp_path / "docker").chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run(["sh", rendered.folder / "bin/list-logs"], env=environment, check=False).returncode

    return run


def targets(rendered: Rendered) -> list[tuple[str, str]]:
    listed = json.loads((rendered.folder / "alloy/targets.d/containers.json").read_text())
    return [(one["labels"]["service"], one["labels"]["__path__"]) for one in listed]


def test_log_files_are_listed_by_service(rendered: Rendered, list_logs: Callable[[str], int]) -> None:
    """The engine has two colours of the worker, one of them with a replica."""
    assert list_logs("printf 'b2 worker-green\\na1 worker-blue\\nc3 redis\\nd4 worker-green-2\\n'") == 0
    assert targets(rendered) == [
        ("worker", "/var/lib/docker/containers/a1/a1-json.log"),
        ("worker", "/var/lib/docker/containers/b2/b2-json.log"),
        ("redis", "/var/lib/docker/containers/c3/c3-json.log"),
        ("worker", "/var/lib/docker/containers/d4/d4-json.log"),
    ]


@pytest.mark.parametrize("engine", ["exit 1", "echo 'b2 redis'; exit 1"])
def test_engine_that_does_not_answer_leaves_the_list(
    rendered: Rendered, list_logs: Callable[[str], int], engine: str
) -> None:
    """Alloy forgets how far it has read a file that is missing from the list, and sends it all again."""
    assert list_logs("echo 'c3 redis'") == 0
    assert list_logs(engine) != 0
    assert targets(rendered) == [("redis", "/var/lib/docker/containers/c3/c3-json.log")]
