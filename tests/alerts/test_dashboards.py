"""The dashboards' files: as scripts/dashboards makes them, with a question, a unit and an explanation everywhere."""

import re
from pathlib import Path
from typing import Any

import pytest

from scripts.dashboards.__main__ import main
from tests.alerts.boards import FOLDER, ROOT, boards, filled, queries
from tests.alerts.names import Known, known, problems
from tests.alerts.test_grafana import complaints

BOARDS = boards()
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"]]


@pytest.fixture(scope="module")
def metrics() -> dict[str, Known]:
    alerts = {label: frozenset[str]() for label in ("alertname", "alertstate", "severity")}
    return {**known(), "wearon:unavailable:ratio": Known("", {}), "ALERTS": Known("", alerts)}


def test_files_are_not_stale(tmp_path: Path) -> None:
    main(tmp_path)
    for path in FOLDER.glob("*.json"):
        assert path.read_text() == (tmp_path / path.name).read_text(), "run `make dashboards`"
    assert len(list(tmp_path.iterdir())) == len(BOARDS)


def test_all_dashboards_are_there() -> None:
    titles = {board["title"] for board in BOARDS.values()}
    assert titles == {"Business", "Worker", "API", "Host and containers", "Logs", "Deploys"}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize(
    ("name", "panel"), PANELS, ids=lambda value: value if isinstance(value, str) else value["title"]
)
def test_panel_asks_a_question_and_explains_the_answer(name: str, panel: dict[str, Any]) -> None:
    assert panel["title"].endswith("?")
    assert len(panel["description"]) > 10
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] in (
        {"type": "prometheus", "uid": "prometheus"},
        {"type": "loki", "uid": "loki"},
    )
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_panels_lie_side_by_side(board: dict[str, Any]) -> None:
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) <= 23
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_deploys_are_marked(board: dict[str, Any], metrics: dict[str, Known]) -> None:
    (mark,) = [mark for mark in board["annotations"]["list"] if mark["name"] == "Deploys"]
    assert mark["enable"]
    assert mark["datasource"]["uid"] == "prometheus"
    assert "wearon_build_info offset" in mark["expr"]
    assert not problems(mark["expr"], metrics)


def test_queries_ask_for_what_exists(metrics: dict[str, Known]) -> None:
    for query in queries("prometheus"):
        assert not problems(query.expression, metrics), query
        for label in re.findall(r"{{(\w+)}}", query.legend):
            kept = re.search(rf"by \([^)]*\b{label}\b", query.expression)
            assert kept or " by " not in query.expression, f"{query.panel}: {label} is not left"


def test_queries_of_logs_are_logql() -> None:
    asked = queries("loki")
    assert dict(zip(asked, complaints([query.expression for query in asked]), strict=True)) == dict.fromkeys(asked)


def test_variables_are_all_known() -> None:
    """A `$x` that Grafana does not fill in would be sent as it is."""
    for name, board in BOARDS.items():
        fields = {variable["name"] for variable in board["templating"].get("list", [])}
        for panel in board["panels"]:
            for target in panel["targets"]:
                assert "$" not in filled(target["expr"]), (name, panel["title"])
                assert set(re.findall(r"\$\{(\w+)\}", target["expr"])) <= fields


def test_panels_take_together_what_replicas_count_each() -> None:
    """docs/metrics.md says of each metric whether instances are summed, or all show the same."""
    over = dict(re.findall(r"^\| `(wearon_\w+)` \|.*\| (sum|max) \|", (ROOT / "docs/metrics.md").read_text(), re.M))
    asked = re.findall(
        r"(sum|max) ?(?:by \([^)]*\) ?)?\((wearon_\w+)", " ".join(one.expression for one in queries("prometheus"))
    )
    assert len(asked) >= 20
    assert [(how, name) for how, name in asked if over.get(name, how) != how] == []
