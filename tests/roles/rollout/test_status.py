"""The screen of `make status`."""

import json
import re
import urllib.parse
from pathlib import Path
from typing import Any

import host
import pytest
import status

from tests.roles.conftest import ROOT
from tests.roles.rollout.conftest import Host

ANSWERS: dict[str, list[tuple[dict[str, str], str]]] = {
    "wearon_build_info": [({"host": "here", "colour": "blue", "version": "v1"}, "1")],
    "wearon_queue_messages": [({}, "12")],
    "ALERTS": [({"alertname": "queue-old"}, "1"), ({"alertname": "disk-full"}, "1")],
}


@pytest.fixture
def screen(here: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return the screen of a host whose Prometheus answers, or does not."""

    def show(code: int = 200) -> dict[str, str]:
        def ask(url: str, *_: object, **__: object) -> tuple[int, str]:
            query = urllib.parse.unquote(url.partition("query=")[2])
            found = next((series for name, series in ANSWERS.items() if name in query), [])
            result = [{"metric": labels, "value": [1.0, value]} for labels, value in found]
            return code, json.dumps({"data": {"result": result}}) if code == 200 else "connection refused"

        networks = {"default": {"IPAddress": "172.18.0.9"}}
        monkeypatch.setattr(host, "ask", ask)
        monkeypatch.setattr(host, "inspect", lambda *_: [{"NetworkSettings": {"Networks": networks}}])
        job = here.job(
            path=str(here.upstream),
            lock=str(tmp_path / "lock"),
            log=str(tmp_path / "log"),
            pins=str(tmp_path),
            gaps=["alarm"],
        )
        return {line[:12].strip(): line[13:] for line in status.status(job)}

    return show


def test_screen_shows_what_serves_waits_fires_and_was_deployed(screen: Any, tmp_path: Path) -> None:
    line = {"time": "T", "why": "site", "who": "alice", "commit": "abc", "seconds": 72, "result": "ok"}
    (tmp_path / "log").write_text(json.dumps(line) + "\n")
    image = f"redis:7@sha256:{'0123456789abcdef' * 4}"
    (tmp_path / "redis.yml").write_text(json.dumps({"services": {"redis": {"image": image}}}))
    shown = screen()
    assert shown["serving"] == "here: blue"
    assert shown["release"] == "v1 (blue on here)"
    assert shown["queue"] == "12 messages"
    assert shown["alerts"] == "disk-full, queue-old"
    assert shown["backup"] == "none"
    assert shown["images"] == "redis:7@sha256:0123456789ab"
    assert shown["not set"] == "alarm"
    assert shown["deployed"] == "T site by alice, commit abc, 72 s: ok"
    (tmp_path / "lock").write_text(json.dumps({"why": "site", "who": "bob", "host": "x", "when": "T"}))
    assert screen()["deploying"] == "site by bob on x since T"


def test_screen_is_shown_without_prometheus(screen: Any) -> None:
    shown = screen(0)
    assert shown["prometheus"] == "does not answer: connection refused"
    assert (shown["serving"], shown["deployed"]) == ("here: blue", "never")


def test_screen_asks_for_metrics_that_there_are() -> None:
    documented = "".join((ROOT / "docs" / name).read_text() for name in ("metrics.md", "host-metrics.md"))
    asked = set(re.findall(r"wearon_\w+", " ".join(query for query, _, _ in status._ROWS.values())))
    assert len(asked) >= 9
    assert {name for name in asked if f"`{name}`" not in documented} == set()


def test_screen_sums_no_metric_that_each_worker_shows_in_full() -> None:
    """With two workers, or in a rollout, the books would have twice as many findings."""
    table = (ROOT / "docs/metrics.md").read_text()
    shared = set(re.findall(r"^\| `(wearon_\w+)` \|.*\| max \|", table, re.M))
    summed = re.findall(r"sum(?: by \(.*?\) )?\((wearon_\w+)", " ".join(query for query, _, _ in status._ROWS.values()))
    assert len(shared) >= 20
    assert len(summed) >= 3
    assert shared & set(summed) == set()
