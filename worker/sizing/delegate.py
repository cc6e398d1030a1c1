"""The processor of the pose model: the CPU, or a GPU where the library, the driver and the speed allow one.

MediaPipe's GPU delegate draws with OpenGL ES. Only the image's variant `gpu` has it: docs/decisions/0033.
"""

import time
from pathlib import Path
from typing import Literal

import numpy as np

from worker.logs import get_logger
from worker.sizing import metrics
from worker.sizing.pose import MODEL_PATH, GpuUnavailable, Landmarker, ModelUnusable

log = get_logger(__name__)

Wanted = Literal["cpu", "gpu", "auto"]

_BLANK = np.zeros((512, 384, 3), np.uint8)
#: The first one compiles shaders.
_TRIALS = 3


def choose(wanted: Wanted, path: Path = MODEL_PATH) -> bool:
    """Tell if the GPU is to be used. Without one `auto` logs a line and takes the CPU; `gpu` raises ModelUnusable."""
    gpu = wanted != "cpu" and _usable(wanted, path)
    metrics.delegate("gpu" if gpu else "cpu")
    return gpu


def _usable(wanted: Wanted, path: Path) -> bool:
    try:
        took = _seconds(path, gpu=True)
    except GpuUnavailable as error:
        if wanted == "gpu":
            raise ModelUnusable(f"SIZING_DELEGATE is gpu, but {error}; use auto or cpu.") from None
        log.warning("gpu_delegate_unavailable", reason=str(error))
        return False
    # Without a GPU's driver the system may draw on the CPU instead, a hundred times slower.
    if wanted == "auto" and took >= (cpu := _seconds(path, gpu=False)):
        log.warning("gpu_delegate_unavailable", reason=f"it takes {took:.3f} s where the CPU takes {cpu:.3f} s")
        return False
    return True


def _seconds(path: Path, *, gpu: bool) -> float:
    with Landmarker(path, gpu=gpu) as landmarker:
        times = []
        for _ in range(_TRIALS):
            begun = time.monotonic()
            landmarker.detect(_BLANK)
            times.append(time.monotonic() - begun)
    return min(times)
