"""A managed Redis with TLS, an authority of its own and a user of few rights, in the place of the stack's own."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.molecule.hosts import Played
from tests.molecule.workers.tests.conftest import FIRST, OLD, ask, await_measured
from tests.sandbox.producer import Producer


def test_exporters_measure_it() -> None:
    await_measured()
    assert ask("redis_connected_clients>0")
    assert ask("redis_memory_max_bytes>0")


def test_try_on_needs_no_command_that_it_refuses(
    producer: Producer, console: Callable[..., Any], paid_once: Callable[..., None]
) -> None:
    console("ACL", "LOG", "RESET")
    paid_once([producer.b2c() for _ in range(3)])
    refused = {entry["object"] for entry in console("ACL", "LOG")}
    assert refused <= {"slowlog|get", "slowlog|len", "latency|latest", "latency|histogram", "client|list"}, refused


def test_archive_says_that_it_lacks_the_queue(play: Callable[..., Played], tmp_path: Path) -> None:
    run = play("backup", "-e", f"to={tmp_path}")
    assert run.code == 0, run.text
    assert "The queue is not in this archive: Redis is managed" in " ".join(run.text.split())
    opened = ["docker", "exec", "-i", "testbed-neighbour", "age", "--decrypt", "-i", "/state/backup-identity.txt"]
    archive = next(tmp_path.iterdir())
    plain = subprocess.run(opened, stdin=archive.open("rb"), capture_output=True, check=True, timeout=60).stdout
    listed = subprocess.run(["tar", "--list"], input=plain, capture_output=True, check=True, timeout=60).stdout
    saved = [name for name in listed.decode().split() if name.startswith("./redis/")]
    assert saved == ["./redis/", "./redis/managed.txt"]


@pytest.mark.parametrize("shown", ["docker ps -aq | xargs docker inspect", "ps -ef", "cat /opt/wearon/compose.d/*"])
def test_its_password_is_shown_nowhere(shown: str) -> None:
    said = FIRST.check_output(shown)
    assert len(said) > 1000
    for password in (OLD, quote(OLD, safe="")):
        assert password not in said
