"""`wearon-worker estimate` as a person types it, without any environment variable."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests import command
from tests.worker.sizing.conftest import PICTURES
from worker.sizing import pose

PHOTO = PICTURES / "images" / "b000.jpg"


ENVIRONMENT = {"PATH": "/usr/bin:/bin", "COLUMNS": "100"}


def estimate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return command.run(ENVIRONMENT, "estimate", *arguments)


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, to see that native code writes nothing."""
    program = [sys.executable, "-m", "worker", "estimate", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT)


def test_table_and_annotated_picture(tmp_path: Path) -> None:
    drawn = tmp_path / "out.jpg"

    done = process(str(PHOTO), "--height", "173.4", "--weight", "77.3", "--annotate", str(drawn))

    assert (done.returncode, done.stderr) == (0, "")
    assert "Size " in done.stdout
    assert all(girth in done.stdout for girth in ("chest", "waist", "hip", "shoulder"))
    with Image.open(drawn) as picture:
        assert picture.size == (768, 1024)


def test_a_format_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = estimate(str(PHOTO), "--height", "168", "--annotate", str(tmp_path / "out.psd"))
    assert "out.psd cannot be written: .psd is read only; name it .png" in done.stderr


def test_height_and_weight_are_enough() -> None:
    done = process("--height", "178", "--weight", "74.5", "--sex", "M", "--age", "30")

    assert (done.returncode, done.stderr) == (0, "")
    assert "Size M" in done.stdout
    assert "M fits: " in done.stdout
    assert "Basis: prior." in done.stdout


def test_an_unusable_model_is_told_without_a_photo_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pose, "MODEL_SHA256", "0")
    done = estimate("--height", "178", "--weight", "74.5")
    assert done.returncode == 1
    assert done.stderr.startswith("wearon-worker: The pose model ")


def test_named_chart_and_unusable_side_photo_are_told() -> None:
    done = estimate(str(PHOTO), "--height", "173.4", "--side", str(PHOTO), "--chart", "women-eu")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.lstrip().startswith("Size ")
    assert "side_photo_unusable" in done.stdout


@pytest.mark.parametrize(
    ("weight", "words"),
    [((), "Give a photo, --weight or both"), (("--weight", "300"), "If it is in pounds, send 136.1")],
)
def test_height_alone_and_impossible_weight_are_told(weight: tuple[str, ...], words: str) -> None:
    done = estimate("--height", "178", *weight)

    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


def test_picture_of_no_photo_is_refused(tmp_path: Path) -> None:
    drawn = tmp_path / "out.jpg"

    done = estimate("--height", "178", "--weight", "74.5", "--annotate", str(drawn))

    assert (done.returncode, done.stdout, drawn.exists()) == (1, "", False)
    assert "--annotate" in done.stderr


def test_refused_photo_is_one_line_with_reason_and_hint(tmp_path: Path) -> None:
    wall = tmp_path / "wall.png"
    Image.new("RGB", (400, 600), (200, 190, 180)).save(wall)

    done = estimate(str(wall), "--height", "170")

    assert done.returncode == 1
    assert "(no_person)" in done.stderr
    assert "Traceback" not in done.stderr


def test_file_that_is_no_picture_and_bad_height_are_told(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no picture")

    assert estimate(str(text), "--height", "170").returncode == 1
    assert "100<=x<=250" in estimate(str(PHOTO), "--height", "17").stderr


@pytest.mark.parametrize("option", ["--height", "--weight"])
def test_not_a_number_is_no_measure(option: str) -> None:
    done = estimate(str(PHOTO), "--height", "170", option, "nan")

    assert done.returncode == 2
    assert "nan is not a finite number" in done.stderr


def test_file_that_cannot_be_read_is_told() -> None:
    done = estimate("/proc/self/mem", "--height", "170")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "wearon-worker: /proc/self/mem cannot be read: Input/output error\n"


def test_file_larger_than_a_download_may_be_is_told(tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate(2_000_000_000)

    done = estimate(str(large), "--height", "170")

    assert done.returncode == 1
    assert "large.jpg has 2,000,000,000 bytes; the limit is 10,485,760" in done.stderr
