"""The upstream file of nginx, and the processes of nginx that know an older one."""

import subprocess

import host
import pytest
import route

from tests.roles.rollout.conftest import Clock, Host


def run(monkeypatch: pytest.MonkeyPatch, *, busy_looks: int = 0, reload: int = 0) -> list[str]:
    """Let nginx have old processes for that many looks; return what is called, in order."""
    called: list[str] = []

    def answer(*command: str, **_: object) -> subprocess.CompletedProcess[str]:
        called.append("reload" if command[-1] == "--reload" else command[1])
        top = "nginx: worker process is shutting down" if called.count("top") <= busy_looks else "nginx: worker process"
        return subprocess.CompletedProcess(command, reload if called[-1] == "reload" else 0, top, "no\nsuch")

    monkeypatch.setattr(host, "run", answer)
    return called


def serve(here: Host, quiet: str) -> int:
    return route.route(here.job(path=str(here.upstream), upstream="server green; # green\n", quiet=quiet))


@pytest.mark.parametrize(
    ("quiet", "order"),
    [("", ["reload"]), ("before", ["ps", "top", "top", "reload"]), ("after", ["reload", "ps", "top", "top"])],
)
def test_old_processes_are_waited_for_where_it_matters(
    here: Host, monkeypatch: pytest.MonkeyPatch, quiet: str, order: list[str]
) -> None:
    called = run(monkeypatch, busy_looks=1)
    serve(here, quiet)
    assert called == order
    assert here.upstream.read_text() == "server green; # green\n"


def test_old_processes_are_not_waited_for_for_ever(here: Host, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    run(monkeypatch, busy_looks=1000)
    before = clock.now
    serve(here, "after")
    assert clock.now - before == 75


def test_nginx_that_refuses_is_quoted(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, reload=1)
    with pytest.raises(SystemExit, match=r"^nginx refused to follow: no such$"):
        serve(here, "")
