"""The alert rules as Ansible renders them, and the programs that read them."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import render as renderer
from tests.shared import once


def copy_rules(stack: Path, folder: Path) -> None:
    """Copy all files that the rules become, and the rules as data, into `folder`."""
    for path in (stack / "grafana/staged/provisioning/alerting").iterdir():
        shutil.copy(path, folder)
    shutil.copy(stack / "prometheus/staged/rules.d/alerts.yml", folder / "prometheus_rules.yml")
    shutil.copy(stack / "alerts.json", folder)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules with everything switched on."""
    stack = renderer.stack(tmp_path_factory, "local", **renderer.FULL)
    return once(tmp_path_factory, "alerts", partial(copy_rules, stack))


@pytest.fixture(scope="session")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules of the smallest server."""
    stack = renderer.stack(tmp_path_factory, "local", **renderer.SPARSE)
    return once(tmp_path_factory, "sparse", partial(copy_rules, stack))


@pytest.fixture(scope="session")
def groups(rendered: Path) -> dict[str, list[dict[str, Any]]]:
    """The data, with the settings filled in."""
    data: dict[str, list[dict[str, Any]]] = json.loads((rendered / "alerts.json").read_text())
    return data


@pytest.fixture(scope="session")
def rules(groups: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {rule["uid"]: rule for group in groups.values() for rule in group}


@pytest.fixture(scope="session")
def prometheus_rules(rendered: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((rendered / "prometheus_rules.yml").read_text())
    return document
