"""Roles rendered by Ansible itself, without a host: templates, variables and specs of every inventory."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests import render as renderer

ROOT, SECRETS = renderer.ROOT, renderer.SECRETS
INVENTORIES = ["production", "local"]
ROLES = renderer.roles()


def program(role: str, name: str = "surroundings", folder: str = "files") -> ModuleType:
    """A program or plugin of a role as a module."""
    spec = importlib.util.spec_from_file_location(f"{role}_{name}", ROOT / f"roles/{role}/{folder}/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        return Rendered(renderer.stack(tmp_path_factory, inventory, **variables))

    return run


@pytest.fixture(params=INVENTORIES)
def rendered(request: pytest.FixtureRequest, render: Callable[..., Rendered]) -> Rendered:
    """Each inventory as it is in the repository."""
    return render(request.param)
