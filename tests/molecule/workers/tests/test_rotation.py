"""Secrets that change later: nothing in flight is lost, the old ones stop working, on both hosts."""

import json
import re
from collections.abc import Callable
from typing import Any

import redis

from tests.molecule.hosts import Played
from tests.molecule.workers.tests.conftest import FIRST, NEW, OLD, SECOND, await_measured, connect
from tests.sandbox.producer import Producer

ROTATED = json.dumps({"managed_password": NEW})
KEYS = "/home/deploy/.ssh/authorized_keys"
MARKER = "while secrets change"


def login(password: str) -> str:
    """The answer of Redis to this password."""
    try:
        return str(connect("shop", password).ping())
    except redis.AuthenticationError as error:
        return str(error)


def test_new_password_and_removed_key_cost_nothing(
    play: Callable[..., Played],
    producer: Producer,
    console: Callable[..., Any],
    slow: Callable[..., Any],
    paid_once: Callable[..., None],
) -> None:
    """As docs/deploy.md says, with the role of the key; the provider takes the old password away in the end."""
    slow(MARKER, 40)
    queued = [producer.b2c(prompt=f"{MARKER} {number}") for number in range(6)]
    FIRST.check_output(f"echo 'ssh-ed25519 AAAAformer former@example.test' >> {KEYS}")
    console("ACL", "SETUSER", "shop", f">{NEW}")

    run = play("site", "--tags", "base,redis,worker", "-e", ROTATED)
    assert run.code == 0, run.text
    console("ACL", "SETUSER", "shop", f"<{OLD}")
    assert "invalid username-password pair" in login(OLD)
    assert login(NEW) == "True"
    console("CLIENT", "KILL", "USER", "shop")

    queued += [producer.b2c() for _ in range(2)]
    paid_once(queued)
    await_measured()
    assert "former@example.test" not in FIRST.file(KEYS).content_string
    for host in (FIRST, SECOND):
        log = host.check_output(
            "docker ps -q --filter name=worker --filter name=exporter | xargs -n 1 docker logs 2>&1"
        )
        assert not re.search("WRONGPASS|NOAUTH|invalid username-password", log)
        assert not re.search(f"{re.escape(OLD)}|{re.escape(NEW)}", log)


def test_same_again_changes_nothing(play: Callable[..., Played]) -> None:
    run = play("site", "-e", ROTATED)
    assert (run.code, run.changed) == (0, 0), run.text
