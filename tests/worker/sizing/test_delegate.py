"""The choice of the pose model's processor on a machine without a GPU; with one: `make gpu-check`."""

import pytest
from structlog.testing import capture_logs

from worker.metrics import REGISTRY
from worker.sizing.delegate import choose
from worker.sizing.pose import GpuUnavailable, Landmarker, ModelUnusable


def _runs_on(name: str) -> float | None:
    return REGISTRY.get_sample_value("wearon_sizing_delegate", {"delegate": name})


def test_auto_falls_back_to_the_cpu_with_one_line_and_shows_so() -> None:
    with capture_logs() as logs:
        assert choose("auto") is False
    assert [(line["event"], line["log_level"]) for line in logs] == [("gpu_delegate_unavailable", "warning")]
    assert "has no GPU delegate" in logs[0]["reason"]
    assert (_runs_on("cpu"), _runs_on("gpu")) == (1, 0)


def test_a_gpu_that_is_demanded_and_missing_makes_the_model_unusable() -> None:
    with pytest.raises(ModelUnusable, match=r"SIZING_DELEGATE is gpu, but .*; use auto or cpu\."):
        choose("gpu")


def test_a_library_that_ignores_the_delegate_is_not_taken_for_a_gpu() -> None:
    with pytest.raises(GpuUnavailable, match=r"MediaPipe 0\.10\.31 has no GPU delegate"):
        Landmarker(gpu=True)
