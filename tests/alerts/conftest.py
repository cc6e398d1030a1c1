"""The alert rules as Ansible renders them, and the programs that read them."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shared import once

ROOT = Path(__file__).parents[2]
CONTACTS = {
    "grafana_whatsapp_phones": ["+491701234567"],
    "grafana_whatsapp_groups": ["120363012345678901@g.us"],
    "grafana_email_to": ["ops@example.com", "boss@example.com"],
    "grafana_webhook_url": "https://hooks.example.com/a$b",
    "grafana_heartbeat_url": "https://watcher.example.com/ping",
}


def render(variables: dict[str, Any], folder: Path) -> None:
    """Write all files that the rules become into `folder`."""
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "tests/alerts/render.yml",
        "-i",
        "inventory/local",
    ]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    result = subprocess.run(
        [*command, "-e", json.dumps({**variables, "folder": str(folder)})],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With everything that can be switched on."""
    return once(tmp_path_factory, "alerts", partial(render, CONTACTS))


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
