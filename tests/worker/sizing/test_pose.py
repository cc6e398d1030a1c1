"""The native landmarker's edges: shapes that would end the process, and its file."""

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from tests.worker.sizing.conftest import picture
from worker.sizing.landmarkers import Landmarkers
from worker.sizing.pose import Landmarker, ModelUnusable, verify_model


@pytest.mark.parametrize("width", range(560, 577))
def test_every_width_gives_a_mask_of_the_pictures_size(width: int, landmarker: Landmarker) -> None:
    poses = landmarker.detect(np.asarray(picture("b000.jpg").resize((width, 761))))

    assert [pose.mask.shape for pose in poses] == [(761, width)]


def test_threads_share_a_few_landmarkers_that_are_closed_when_unused() -> None:
    pixels = np.asarray(picture("b000.jpg"))
    shared = Landmarkers(2)
    shared.prove()
    assert shared.idle == 0
    shared.detect(pixels)
    shared.detect(pixels)
    assert shared.idle == 1
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: len(shared.detect(pixels)), range(8)))
    assert (found, shared.idle) == ([1] * 8, 2)
    assert (shared.close_unused(60), shared.idle) == (0, 2)
    assert (shared.close_unused(0), shared.idle) == (2, 0)
    assert len(shared.detect(pixels)) == 1
    shared.close_unused(0)


def test_packaged_model_is_the_one_that_is_expected() -> None:
    verify_model()


def test_missing_and_damaged_model_are_named(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.task"
    damaged.write_bytes(b"x")

    with pytest.raises(ModelUnusable, match=r"missing\.task cannot be read: No such file"):
        verify_model(tmp_path / "missing.task")
    with pytest.raises(ModelUnusable, match=r"damaged\.task is damaged: its SHA-256"):
        verify_model(damaged)


def test_mediapipe_is_the_version_that_opens_no_connection() -> None:
    assert version("mediapipe") == "0.10.31"
