"""The dashboards' files as they are in the repository, and their queries as Grafana would send them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "roles/grafana/files/dashboards"
#: What Grafana fills in: the chosen time, and four scrapes (`timeInterval` of the datasource is 15 s).
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "${request_id}": "", "${session_id}": "", "${text}": ""}


class Query(NamedTuple):
    """One query of one panel."""

    board: str
    panel: str
    source: str
    legend: str
    expression: str


def boards() -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def queries(source: str) -> list[Query]:
    """All of one datasource, with the variables filled in."""
    found = []
    for name, board in boards().items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                if panel["datasource"]["uid"] == source:
                    expression = filled(target["expr"])
                    found.append(Query(name, panel["title"], source, target["legendFormat"], expression))
    return found


def filled(expression: str) -> str:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression
