"""`activate-nginx`, with an nginx that refuses every configuration in which the word `broken` stands."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.roles.conftest import Rendered

#: `docker run` checks what it is given; `docker exec` is the reload.
DOCKER = """#!/bin/sh
case "$*" in
  "run "*) ! grep -rq broken "$(dirname "{folder}/${{*##*/wearon/}}")" {folder}/upstreams ;;
  "ps "*) echo 1234 ;;
  "exec "*) echo "$*" >>{folder}/reloads ;;
esac
"""
Activate = Callable[..., int]


@pytest.fixture
def nginx(render: Callable[..., Rendered], tmp_path: Path) -> Path:
    """The folder of nginx, serving `first` to one upstream."""
    for name, text in {"staged/nginx.conf": "first", "upstreams/worker.conf": "blue"}.items():
        (tmp_path / "nginx" / name).parent.mkdir(parents=True)
        (tmp_path / "nginx" / name).write_text(text)
    for name in ("tls", "maintenance"):
        (tmp_path / "nginx" / name).mkdir()
    stack = render("local").folder
    script = (stack / "bin/activate-nginx").read_text().replace(str(stack), str(tmp_path))
    (tmp_path / "activate").write_text(script)
    (tmp_path / "docker").write_text(DOCKER.format(folder=tmp_path / "nginx"))
    (tmp_path / "docker").chmod(0o755)
    shutil.copytree(tmp_path / "nginx/staged", tmp_path / "nginx/live")
    return tmp_path / "nginx"


@pytest.fixture
def activate(nginx: Path) -> Activate:
    def run(*arguments: str) -> int:
        path = f"{nginx.parent}:{os.environ['PATH']}"
        command = ["sh", str(nginx.parent / "activate"), *arguments]
        return subprocess.run(command, env={**os.environ, "PATH": path}, check=False, timeout=30).returncode

    return run


def reloads(nginx: Path) -> int:
    return len((nginx / "reloads").read_text().splitlines()) if (nginx / "reloads").exists() else 0


def test_accepted_configuration_goes_live_once(nginx: Path, activate: Activate) -> None:
    (nginx / "staged/nginx.conf").write_text("second")
    assert (activate(), activate()) == (0, 0)
    assert (nginx / "live/nginx.conf").read_text() == "second"
    assert reloads(nginx) == 1


def test_refused_configuration_stays_staged_and_stops_no_rollout(nginx: Path, activate: Activate) -> None:
    (nginx / "staged/nginx.conf").write_text("broken")
    assert activate() != 0
    (nginx / "upstreams/worker.conf").write_text("green")
    assert activate("--reload") == 0
    assert (nginx / "live/nginx.conf").read_text() == "first"
    assert reloads(nginx) == 1
    assert activate() != 0  # it is still said to whoever brought it


def test_refused_upstream_reloads_nothing(nginx: Path, activate: Activate) -> None:
    (nginx / "upstreams/worker.conf").write_text("broken")
    assert activate("--reload") != 0
    assert reloads(nginx) == 0


def test_upstream_written_by_a_play_that_was_killed_is_made_up_for(nginx: Path, activate: Activate) -> None:
    assert activate() == 0
    (nginx / "upstreams/worker.conf").write_text("green")
    assert activate() == 0
    assert reloads(nginx) == 2
    assert (activate(), reloads(nginx)) == (0, 2)
