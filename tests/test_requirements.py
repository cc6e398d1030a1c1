"""The committed requirements are what pyproject.toml says, and name no package index."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.name for path in (ROOT / "requirements").glob("*.txt"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("requirements")
    subprocess.run(["bash", "scripts/requirements.sh"], cwd=ROOT, env={**os.environ, "OUT": str(folder)}, check=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_requirements_are_not_stale(compiled: Path, name: str) -> None:
    assert (compiled / name).read_text() == (ROOT / "requirements" / name).read_text(), "run: make requirements"


@pytest.mark.parametrize("name", NAMES)
def test_every_requirement_is_pinned_and_hashed_and_no_host_is_named(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    packages = [block for block in re.split(r"\n(?=\S)", text) if not block.startswith("#")]
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9.\-_\[\]]+==\S+", package), package
        assert "--hash=sha256:" in package, package
    assert "://" not in text


def test_image_is_built_of_files_that_its_build_gets() -> None:
    """The folder of the build holds what .dockerignore lets through, nothing else."""
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    given = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    names = {name for names in copied for name in names.split()}
    assert "requirements/runtime.txt" in names
    assert names <= given
