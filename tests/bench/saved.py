"""Saved runs: the figures of the last documented one stand beside its curves in docs/performance/."""

import json
from pathlib import Path
from typing import Any

from tests.bench import curves

ROOT = Path(__file__).parents[2]
LAST = ROOT / "docs" / "performance" / "last.json"


def read(file: Path) -> dict[str, dict[str, float | str]]:
    """Values by part and name; none where there is no file."""
    return {
        part: {figure["name"]: figure["value"] for figure in figures} for part, figures in _load(file)["parts"].items()
    }


def write(file: Path, text: str) -> None:
    """Put the parts of this run into the file, where parts of other runs stay, and draw all curves beside the file."""
    run = json.loads(text)
    machine = run.pop("machine")
    parts = {**_load(file)["parts"], **run["parts"]}
    # Parts of one file come from different runs, each with the machine under it.
    machines = {**_load(file)["machines"], **dict.fromkeys(run["parts"], machine)}
    file.write_text(json.dumps({"machines": machines, "parts": parts}, indent=2) + "\n")
    curves.draw(parts, file.parent)


def _load(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.exists() else {"machines": {}, "parts": {}}
