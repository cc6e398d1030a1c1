"""Programs that read the rendered files: this machine's own (tests/programs.sh fetches them), or an image's.

`make test` runs the machine's own. `make test-images` sets PROGRAMS=images and runs those of the stack's images.
"""

import os
import shutil
import subprocess
import sys
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
    return in_image(IMAGES[program], folder, program) if runs_images() else [on_this_machine(program)]


def script(program: str, folder: Path, text: str) -> list[str]:
    """Command line of a shell script in which "$0" is the program."""
    if runs_images():
        return [*in_image(IMAGES[program], folder, "sh"), "-c", text, program]
    return ["sh", "-c", text, on_this_machine(program)]


def runs_images() -> bool:
    """Tell whether the programs come from images (`make test-images`)."""
    return os.environ.get("PROGRAMS") == "images"


def on_this_machine(program: str) -> str:
    """Path of a program, in the virtual environment or elsewhere on this machine."""
    folder = Path(sys.executable).parent
    found = shutil.which(program, path=f"{folder}:{os.environ['PATH']}")
    if not found:
        pytest.fail(f"{program} is not on this machine: type `bash tests/programs.sh {folder}`")
    return found


def in_image(image: str, folder: Path, program: str) -> list[str]:
    """Begin a command line that runs a program of an image, as this user, in a folder that it may read and write."""
    inspected = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=False)
    if inspected.returncode != 0:
        pytest.fail(
            f"The image {image} is not here: `make images` pulls it, `make molecule` builds it. {inspected.stderr}"
        )
    user = f"--user={os.getuid()}:{os.getgid()}"
    mount = [f"--volume={folder}:{folder}", f"--workdir={folder}"]
    return ["docker", "run", "--rm", "--network=host", user, *mount, f"--entrypoint={program}", image]
