"""Every rule is seen firing when things break, silent while they are well, and not blind when series are missing."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.promtool import Case, case_test, cases, still_test, world
from tests.programs import script
from tests.shared import once

CASES = cases()


@pytest.fixture(scope="session")
def verdicts(
    tmp_path_factory: pytest.TempPathFactory, prometheus_rules: dict[str, Any], rules: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """promtool's answer for each test file; promtool judges all of them once per run."""
    folder = once(tmp_path_factory, "promtool", lambda folder: judge(folder, prometheus_rules["groups"], rules))
    found = re.split(r"^== (\S+)$", (folder / "verdicts").read_text(), flags=re.M)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def judge(folder: Path, groups: list[dict[str, Any]], rules: dict[str, dict[str, Any]]) -> None:
    """Write a test file for each case and promtool's answers."""
    by_uid = {rule.get("alert"): rule for group in groups for rule in group["rules"]}
    recordings = next(group for group in groups if group["name"] == "recordings")

    def write(name: str, groups: list[dict[str, Any]], test: dict[str, Any]) -> None:
        (folder / f"{name}.rules.yml").write_text(json.dumps({"groups": groups}))
        document = {"rule_files": [f"{name}.rules.yml"], "evaluation_interval": "15s", "tests": [test]}
        (folder / name).write_text(json.dumps(document))

    for case in CASES:
        alone = {"name": "tested", "rules": [by_uid[case.uid]]}
        write(case.file, [recordings, alone] if case.recorded else [alone], case_test(case, rules[case.uid]))
    write("healthy.test.yml", groups, still_test(world(), {"heartbeat": 1}))
    write("empty.test.yml", groups, still_test({}, fires_without_series(rules)))
    # Old and new releases print different things, so a line of our own says whose verdict follows.
    every = 'for file in *.test.yml; do echo "== $file"; "$0" test rules "$file" 2>&1; done >verdicts'
    # Each run is over before its garbage matters: two fifths of the processor time.
    subprocess.run(script("promtool", folder, every), cwd=folder, env={**os.environ, "GOGC": "off"}, check=False)


def fires_without_series(rules: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Number of alerts of each rule that fire when Prometheus holds nothing at all."""
    jobs = len(re.findall("absent", rules["target-missing"]["expr"]))
    firing = {uid: 1 for uid, rule in rules.items() if rule["absent"] == "self" and "expr" in rule}
    return {**firing, "target-missing": jobs, "heartbeat": 1}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule_fires_when_things_break(case: Case, verdicts: dict[str, str]) -> None:
    assert "SUCCESS" in verdicts[case.file], verdicts[case.file]


def test_no_rule_fires_while_all_is_well(verdicts: dict[str, str]) -> None:
    assert "SUCCESS" in verdicts["healthy.test.yml"], verdicts["healthy.test.yml"]


def test_missing_series_are_told(verdicts: dict[str, str]) -> None:
    """Without any series the rules that say so fire, and no other."""
    assert "SUCCESS" in verdicts["empty.test.yml"], verdicts["empty.test.yml"]


def test_every_rule_says_who_tells_when_its_series_are_missing(rules: dict[str, dict[str, Any]]) -> None:
    for uid, rule in rules.items():
        if rule["absent"] not in {"self", "quiet"}:
            assert rules[rule["absent"]]["absent"] == "self", uid


def test_every_rule_has_a_case(rules: dict[str, dict[str, Any]]) -> None:
    assert {case.uid for case in CASES} == {uid for uid, rule in rules.items() if "expr" in rule}
