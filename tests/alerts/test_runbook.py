"""docs/runbook.md: a page for each alert, and nothing in it that does not exist."""

import re
from typing import Any

import yaml

from tests.alerts.boards import boards
from tests.programs import ROOT

RUNBOOK = (ROOT / "docs/runbook.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^##? ).*\n?)*)", RUNBOOK, flags=re.M))


def test_every_alert_has_its_page(rules: dict[str, dict[str, Any]]) -> None:
    for uid, rule in rules.items():
        if uid == "heartbeat":
            continue
        assert re.fullmatch(r"[A-Za-z0-9 ]+", rule["title"]), "its anchor would have holes"
        assert rule["title"] in SECTIONS, uid
        for part in ("**Meaning.**", "**Check.**", "**Fix.**"):
            assert part in SECTIONS[rule["title"]], (uid, part)


def test_durations_are_the_rules(rules: dict[str, dict[str, Any]]) -> None:
    for uid in ("worker-degraded", "host-cpu", "host-clock", "container-memory", "certificate-missing"):
        minutes = re.search(r"[Ff]or (?:longer than )?(\d+|a) minutes?", SECTIONS[rules[uid]["title"]])
        assert minutes, uid
        assert rules[uid]["for"] == f"{minutes[1]}m", uid


def test_pruning_keeps_the_way_back_of_a_rollback() -> None:
    """Advice to make room spares the worker's images: a rollback needs an unused one."""
    assert "wearon.release=" in (ROOT / "Dockerfile").read_text()
    files = [
        *(ROOT / "docs").rglob("*.md"),
        *(path for path in (ROOT / "roles").rglob("*") if path.is_file() and path.suffix != ".pyc"),
    ]
    lines = [line for path in files for line in path.read_text().splitlines() if "docker image prune" in line]
    assert len(lines) >= 3
    assert all("--filter label!=wearon.release" in line for line in lines), lines


def test_log_events_are_logged() -> None:
    sources = "".join(path.read_text() for folder in ("worker", "bridge") for path in (ROOT / folder).rglob("*.py"))
    for event in re.findall(r"event `(\w+)`", RUNBOOK):
        assert f'"{event}"' in sources, event


def test_settings_can_be_set() -> None:
    known = set()
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        known |= yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"].keys()
    roles = {path.name for path in (ROOT / "roles").iterdir()}
    for name in re.findall(r"`((?:vault_)?[a-z]+(?:_[a-z]+)+)`", RUNBOOK):
        plain = name.removeprefix("vault_")
        if any(plain.startswith(f"{role}_") for role in roles) and not plain.startswith("worker_lost"):
            assert plain in known, name


def test_playbooks_and_panels_are_there() -> None:
    for path in re.findall(r"playbooks/\w+\.yml", RUNBOOK):
        assert (ROOT / path).exists(), path
    titles = {board["title"].split()[0]: {panel["title"] for panel in board["panels"]} for board in boards().values()}
    for board, panel in re.findall(r'[Dd]ashboard (\w+), "([^"]+\?)', RUNBOOK):
        assert panel in titles[board], (board, panel)
    for board in re.findall(r"[Dd]ashboard (\w+)", RUNBOOK):
        assert board in titles, board
