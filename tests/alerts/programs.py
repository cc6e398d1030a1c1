"""Programs of the monitoring stack: out of an image where an engine has it, else this machine's own."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def image(role: str) -> str:
    defaults = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())
    return f"{defaults[f'{role}_image']}:{defaults[f'{role}_tag']}"


@cache
def has_image(name: str) -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0


def shell(name: str, folder: Path) -> list[str]:
    """A shell that has a program of Prometheus's, in `folder`, which it may read and write."""
    where = image("prometheus")
    if has_image(where):
        user, mount = f"--user={os.getuid()}:{os.getgid()}", [f"--volume={folder}:{folder}", f"--workdir={folder}"]
        return ["docker", "run", "--rm", "--network=host", user, *mount, "--entrypoint=sh", where]
    need(f"{name}, or the image {where},", shutil.which(name) is not None)
    return ["sh"]


def need(program: str, found: bool) -> None:
    """Nothing is skipped silently: in CI a missing program is a failure."""
    if not found:
        reason = f"{program} is not on this machine"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
