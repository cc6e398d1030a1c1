"""Roles rendered by Ansible itself, without a host: templates, variables and specs of every inventory."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shared import once

ROOT = Path(__file__).parents[2]
INVENTORIES = ["production", "local"]
#: The example vault holds CHANGE_ME, which the roles refuse.
SECRETS = {
    f"vault_{name}": "dummy-dummy-dummy-dummy-dummy"
    for name in (
        "redis_password",
        "worker_supabase_service_role_key",
        "worker_openai_api_key",
        "grafana_admin_password",
        "grafana_secret_key",
        "whatsapp_bridge_secret",
    )
}
ROLES = sorted(path.parent.name for path in (ROOT / "roles").glob("*/tasks"))


@dataclass
class Rendered:
    """One inventory's stack, in a folder laid out like the server."""

    folder: Path

    def services(self) -> dict[str, dict[str, Any]]:
        """All services of all fragments."""
        fragments = [yaml.safe_load(path.read_text()) for path in (self.folder / "compose.d").glob("*.yml")]
        return {name: service for fragment in fragments for name, service in fragment["services"].items()}

    def project(self) -> Path:
        return self.folder / "docker-compose.prod.yml"


@pytest.fixture(scope="session")
def render(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Rendered]:
    """Render an inventory with Ansible; each set of variables once per run."""

    def run(inventory: str, **variables: Any) -> Rendered:
        key = hashlib.sha256(json.dumps(variables, sort_keys=True).encode()).hexdigest()[:8]
        fill = partial(render_stack, inventory, variables)
        return Rendered(once(tmp_path_factory, f"{inventory}-{key}", fill))

    return run


def render_stack(inventory: str, variables: dict[str, Any], folder: Path) -> None:
    """Write the files of the inventory's first host."""
    extra = json.dumps({**SECRETS, **variables, "project_dir": str(folder)})
    playbook = str(Path(sys.executable).with_name("ansible-playbook"))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(ROOT / "inventory/production/.vault_password.example"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    result = subprocess.run(
        [playbook, "tests/roles/render.yml", "-i", f"inventory/{inventory}", "-e", extra],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for name, text in json.loads((folder / "rendered.json").read_text()).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "rendered.json").unlink()
    (folder / "nginx/tls").mkdir()


@pytest.fixture(params=INVENTORIES)
def rendered(request: pytest.FixtureRequest, render: Callable[..., Rendered]) -> Rendered:
    """Each inventory as it is in the repository."""
    return render(request.param)
