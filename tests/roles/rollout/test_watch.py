"""The waits that decide whether a new colour may serve, with an engine that says what the test wants."""

import subprocess
from collections.abc import Callable

import gate
import host
import pytest

from tests.roles.rollout.conftest import Clock

Look = tuple[str, str, int, int]  # state, health, times started again, exit code
STARTING, HEALTHY = ("running", "starting", 0, 0), ("running", "healthy", 0, 0)


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Callable[..., str]:
    """Wait for a colour whose container looks like this, one look after the other; the last look stays."""

    def run(seconds: int, looks: list[Look], *, steady: bool = False, ready: bool = True) -> str:
        left = list(looks)

        def seen(*_: str) -> subprocess.CompletedProcess[str]:
            if not left:
                return subprocess.CompletedProcess([], 1, "", "No such object")
            state, health, starts, code = left.pop(0) if len(left) > 1 else left[0]
            return subprocess.CompletedProcess([], 0, f"{state} {health} T{starts}/{starts} {code}\n", "")

        monkeypatch.setattr(host, "run", seen)
        monkeypatch.setattr(host, "ask", lambda *_, **__: (200 if ready else 503, ""))
        return gate.fault_within("green", seconds, "http://green/ready" if steady else "")

    return run


def test_healthy_container_passes(wait: Callable[..., str]) -> None:
    assert wait(30, [STARTING, STARTING, HEALTHY]) == ""


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
    wait: Callable[..., str], clock: Clock, looks: list[Look], sentence: str
) -> None:
    before = clock.now
    assert wait(3600, looks) == sentence
    assert clock.now - before < 5


def test_waiting_has_an_end(wait: Callable[..., str]) -> None:
    assert wait(10, [STARTING]) == "the container was not healthy within 10 s"


def test_container_that_stays_up_passes(wait: Callable[..., str]) -> None:
    """The watch does not blame a container for a restart of long ago."""
    assert wait(10, [("running", "healthy", 4, 137)], steady=True) == ""


def test_crash_after_the_switch_is_noticed_even_if_it_is_up_again(wait: Callable[..., str]) -> None:
    looks = [HEALTHY, HEALTHY, ("running", "starting", 1, 137)]
    assert wait(3600, looks, steady=True) == "the container ended and was started again (exit code 137)"


def test_worker_that_is_not_ready_any_more_does_not_pass(wait: Callable[..., str]) -> None:
    assert wait(3600, [HEALTHY], steady=True, ready=False) == "the container was not ready for 5 looks"
