"""Programs that read what the project renders: out of an image where an engine has it, else this machine's own."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def prometheus_image() -> str:
    """The stack's own; `make images` pulls it, `make molecule` builds it."""
    defaults = yaml.safe_load((ROOT / "roles/prometheus/defaults/main.yml").read_text())
    return f"{defaults['prometheus_image']}:{defaults['prometheus_tag']}"


#: Program and where else it is; amtool comes with the test bed, or with the Debian package prometheus-alertmanager.
IMAGES = {"promtool": prometheus_image(), "prometheus": prometheus_image(), "amtool": "testbed/alertmanager"}


def command(program: str, folder: Path, entrypoint: str = "") -> list[str]:
    """Begins a command line that runs it, or another one beside it, in a folder that it may read and write."""
    image = IMAGES[program]
    if has_image(image):
        user = f"--user={os.getuid()}:{os.getgid()}"
        mount = [f"--volume={folder}:{folder}", f"--workdir={folder}"]
        return ["docker", "run", "--rm", "--network=host", user, *mount, f"--entrypoint={entrypoint or program}", image]
    need(f"{program}, or the image {image},", shutil.which(program) is not None)
    return [entrypoint or program]


@cache
def has_image(name: str) -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0


def need(program: str, found: bool) -> None:
    """Nothing is skipped silently: in CI a missing program is a failure."""
    if not found:
        reason = f"{program} is not on this machine"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
