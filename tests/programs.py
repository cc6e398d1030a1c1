"""Programs that read the rendered files: this machine's own (tests/programs.sh fetches them), or an image's.

`make test` runs the machine's own. `make real` sets PROGRAMS=images and runs those of
the stack's images that are on the machine.
"""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def image_of(role: str) -> str:
    """Name and tag of the image that the role runs."""
    defaults = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())
    return f"{defaults[f'{role}_image']}:{defaults[f'{role}_tag']}"


#: Programs that an image of the stack has, too.
IMAGES = {"promtool": image_of("prometheus"), "prometheus": image_of("prometheus"), "nginx": image_of("nginx")}


def command(program: str, folder: Path) -> list[str]:
    """Begin a command line that runs the program in a folder that it may read and write."""
    return in_image(IMAGES[program], folder, program) if runs_image_of(program) else [on_this_machine(program)]


def script(program: str, folder: Path, text: str) -> list[str]:
    """Command line of a shell script in which "$0" is the program."""
    if runs_image_of(program):
        return [*in_image(IMAGES[program], folder, "sh"), "-c", text, program]
    return ["sh", "-c", text, on_this_machine(program)]


def runs_image_of(program: str) -> bool:
    """Tell whether the program comes from an image: in `make real`, if the image is on this machine."""
    return os.environ.get("PROGRAMS") == "images" and _is_here(IMAGES[program])


@cache
def _is_here(image: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def on_this_machine(program: str) -> str:
    """Path of a program, in the virtual environment or elsewhere on this machine."""
    folder = Path(sys.executable).parent
    found = shutil.which(program, path=f"{folder}:{os.environ['PATH']}")
    if not found:
        pytest.fail(f"{program} is not on this machine: type `bash tests/programs.sh {folder}`")
    return found


def in_image(image: str, folder: Path, program: str) -> list[str]:
    """Begin a command line that runs a program of an image, as this user, in a folder that it may read and write."""
    user = f"--user={os.getuid()}:{os.getgid()}"
    mount = [f"--volume={folder}:{folder}", f"--workdir={folder}"]
    return ["docker", "run", "--rm", "--network=host", user, *mount, f"--entrypoint={program}", image]
