"""`await-worker`, which decides whether a new colour may serve, with an engine that says what the test wants."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.roles.conftest import Rendered

Look = tuple[str, str, int, int]  # state, health, times started again, exit code


@pytest.fixture
def wait(render: Callable[..., Rendered], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run it on a colour whose container looks like this, one look after the other; the last one stays."""
    script = render("local").folder / "bin/await-worker"

    def run(what: str, seconds: int, looks: list[Look], *, ready: bool = True) -> tuple[int, str]:
        lines = [f"{state} {health} T{starts} {starts} {code}" for state, health, starts, code in looks]
        (tmp_path / "looks").write_text("".join(f"{line}\n" for line in lines))
        programs = {
            "docker": f"cd {tmp_path} && [ -s looks ] || exit 1\n"
            'head -n 1 looks; [ "$(wc -l <looks)" = 1 ] || sed -i 1d looks',
            "curl": "exit 0" if ready else "exit 22",
            "sleep": "exec /bin/sleep 0.01",
        }
        for name, body in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)
        result = subprocess.run(
            ["sh", str(script), "green", what, str(seconds)],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return result.returncode, (result.stdout + result.stderr).strip()

    return run


STARTING, HEALTHY = ("running", "starting", 0, 0), ("running", "healthy", 0, 0)


def test_healthy_container_passes(wait: Callable[..., tuple[int, str]]) -> None:
    assert wait("healthy", 30, [STARTING, STARTING, HEALTHY]) == (0, "")


@pytest.mark.parametrize(
    ("looks", "sentence"),
    [
        ([STARTING, ("restarting", "starting", 0, 3)], "the container ended with exit code 3"),
        ([STARTING, ("running", "starting", 1, 3)], "the container ended and was started again (exit code 3)"),
        ([STARTING, ("running", "unhealthy", 0, 0)], "the container is unhealthy"),
        ([], "the container is gone"),
    ],
)
def test_container_that_cannot_become_healthy_is_not_waited_for(
    wait: Callable[..., tuple[int, str]], looks: list[Look], sentence: str
) -> None:
    assert wait("healthy", 3600, looks) == (1, sentence)


def test_waiting_has_an_end(wait: Callable[..., tuple[int, str]]) -> None:
    assert wait("healthy", 1, [STARTING]) == (1, "the container was not healthy within 1 s")


def test_container_that_stays_up_passes(wait: Callable[..., tuple[int, str]]) -> None:
    """One that restarted long ago is not blamed for it."""
    assert wait("steady", 1, [("running", "healthy", 4, 137)]) == (0, "")


def test_crash_after_the_switch_is_noticed_even_if_it_is_up_again(wait: Callable[..., tuple[int, str]]) -> None:
    looks = [HEALTHY, HEALTHY, ("running", "starting", 1, 137)]
    assert wait("steady", 3600, looks) == (1, "the container ended and was started again (exit code 137)")


def test_worker_that_is_not_ready_any_more_does_not_pass(wait: Callable[..., tuple[int, str]]) -> None:
    assert wait("steady", 3600, [HEALTHY], ready=False) == (1, "the container was not ready for 5 looks")
