"""The upstream file of nginx, and the processes of nginx that know an older one."""

import subprocess
from pathlib import Path

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


# --- the record of the colour that serves


def test_host_with_another_name_in_the_inventory_keeps_its_colour(here: Host) -> None:
    """Recording blue for a new host would send its requests to a colour that does not run."""
    here.roll_out("v2")
    text = here.upstream.read_text()
    assert "green" in here.record("renamed") == text
    assert [path.name for path in here.upstream.parent.glob("*")] == ["renamed.conf"]
    assert here.record("renamed") == text, "nothing changes the second time"


def test_hosts_that_swap_their_names_keep_their_colours(here: Host) -> None:
    texts = {
        "here": "server green:8000; # green\n",
        "b": "server 10.0.0.2:8001; # blue\n",
        "c": "server 10.0.0.3:8002; # green\n",
    }
    for name, text in {"b": texts["c"], "c": texts["b"], "here": texts["here"]}.items():
        here.upstream.with_stem(name).write_text(text)
    assert here.record(others=("b", "c")) == texts["here"]
    assert {path.stem: path.read_text() for path in here.upstream.parent.glob("*.conf")} == texts


def test_check_renames_no_record(here: Host) -> None:
    here.roll_out("v2")
    job = {"host": "renamed", "path": str(here.upstream.with_stem("renamed")), "server": "renamed", "check": True}
    record = route.serving({**here.job(), **job, "workers": {"renamed": ""}})
    assert record == here.upstream.read_text()
    assert not here.upstream.with_stem("renamed").exists()


def test_new_host_has_no_record(here: Host) -> None:
    assert here.record("new", ("further",)) != ""
    workers = {"new": "", "another": "10.0.0.9"}
    job = {"host": "another", "path": str(here.upstream), "server": "new", "workers": workers}
    assert route.serving({**here.job(), **job}) == ""


def test_host_that_leaves_gets_no_requests_until_a_rollout_brings_the_host_back(here: Host) -> None:
    job = here.job(path=str(here.upstream))
    assert route.leave(job) == {"changed": True}
    assert here.nginx == "server blue:8000 down; # blue\n"
    assert route.leave(job) == {"changed": False}

    here.roll_out()  # the removal was broken off: settles without a new release
    here.assert_settled("v1")
    assert "down" not in here.nginx


def test_host_without_a_record_has_left_already(here: Host, tmp_path: Path) -> None:
    assert route.leave(here.job(path=str(tmp_path / "gone.conf"))) == {"changed": False}
    assert not (tmp_path / "gone.conf").exists()
