"""MediaPipe's Pose Landmarker: a picture in, the person's landmarks and silhouette mask out."""

import hashlib
import sys
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

MODEL_PATH = Path(__file__).with_name("model") / "pose_landmarker_full.task"
MODEL_SHA256 = "4af13c24c689f72df8a46425122d836ee8bc5d5c551f52d14d82d6f66492d5a2"

#: Columns of `Pose.landmarks`.
X, Y, Z, VISIBILITY, PRESENCE = range(5)


class ModelUnusable(Exception):
    """The pose model's file is missing or damaged, or SIZING_DELEGATE asks for a GPU that cannot run the model."""


class GpuUnavailable(Exception):
    """The model cannot run on a GPU here."""


@dataclass(frozen=True)
class Pose:
    """One person as the model sees them."""

    #: 33 rows: x, y in pixels, z, visibility and presence (0..1).
    landmarks: NDArray[np.float64]
    #: 33 rows: x, y, z in the model's metres, the origin between the hips.
    world: NDArray[np.float64]
    #: Height x width, 0..1: how surely a pixel belongs to the person.
    mask: NDArray[np.float32]


class Detector(Protocol):
    """The detector of poses, as the gate uses it."""

    def detect(self, pixels: NDArray[np.uint8]) -> list[Pose]: ...


class Landmarker:
    """One native landmarker; calls are run one after the other, so every thread has its own."""

    def __init__(self, path: Path = MODEL_PATH, *, gpu: bool = False) -> None:
        """Load the model; raises GpuUnavailable where the library has no GPU delegate, or the system no GPU for it."""
        _leave_out_unused_halves()
        # Imported here: the native library takes 25 MB and only the threads of the pool need it.
        import mediapipe  # noqa: PLC0415
        from mediapipe.tasks.python import vision  # noqa: PLC0415

        self._mediapipe = mediapipe
        base = mediapipe.tasks.BaseOptions
        # Older libraries take the option and leave it out of what they hand over.
        if gpu and not hasattr(base(model_asset_path="").to_ctypes(), "delegate"):
            raise GpuUnavailable(f"MediaPipe {version('mediapipe')} has no GPU delegate (the image's variant gpu has)")
        # Given by path the file is mapped into memory; given as bytes it would be copied (40 MB more).
        options = vision.PoseLandmarkerOptions(
            base_options=base(model_asset_path=str(path), delegate=base.Delegate.GPU if gpu else None),
            num_poses=2,
            output_segmentation_masks=True,
        )
        try:
            self._landmarker = vision.PoseLandmarker.create_from_options(options)
        except (RuntimeError, NotImplementedError) as error:
            if not gpu:
                raise
            raise GpuUnavailable(str(error).rpartition(";")[2].strip()[-200:]) from None

    def detect(self, pixels: NDArray[np.uint8]) -> list[Pose]:
        """The people in an upright RGB picture (height x width x 3), at most two."""
        width = pixels.shape[1]
        if width % 4:
            # Rows of the mask that are no multiple of 16 bytes end the whole process in native code.
            pixels = np.pad(pixels, ((0, 0), (0, -width % 4), (0, 0)), mode="edge")
        image = self._mediapipe.Image(self._mediapipe.ImageFormat.SRGB, np.ascontiguousarray(pixels))
        result = self._landmarker.detect(image)
        size = np.array([pixels.shape[1], pixels.shape[0], 1.0, 1.0, 1.0])
        return [
            Pose(
                landmarks=np.array([(p.x, p.y, p.z, p.visibility, p.presence) for p in points]) * size,
                world=np.array([(p.x, p.y, p.z) for p in world]),
                mask=_shares(mask.numpy_view()[:, :width, 0]),
            )
            for points, world, mask in zip(
                result.pose_landmarks, result.pose_world_landmarks, result.segmentation_masks or [], strict=True
            )
        ]

    def close(self) -> None:
        """Free the native memory."""
        self._landmarker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shares(mask: NDArray[Any]) -> NDArray[np.float32]:
    """A copy of the mask from 0 to 1; a GPU's masks have bytes."""
    copied: NDArray[np.float32] = mask.astype(np.float32)
    if mask.dtype == np.uint8:
        copied /= 255
    return copied


def _leave_out_unused_halves() -> None:
    """Keep MediaPipe from loading what measuring does not need."""
    # Its audio half would search the system for PortAudio, with compilers and temporary files.
    sys.modules.setdefault("sounddevice", None)  # type: ignore[arg-type]
    # Its drawing half, in the library of the variant gpu, imports these two; neither is installed there.
    for package, names in {"cv2": ("cv2",), "matplotlib": ("matplotlib", "matplotlib.pyplot")}.items():
        if package not in sys.modules and find_spec(package) is None:
            sys.modules.update({name: ModuleType(name) for name in names})


def verify_model(path: Path = MODEL_PATH) -> None:
    """Check the model file's SHA-256; raises ModelUnusable with a sentence that names the file and its fault."""
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelUnusable(f"The pose model {path} cannot be read: {error.strerror}.") from None
    if found != MODEL_SHA256:
        raise ModelUnusable(f"The pose model {path} is damaged: its SHA-256 is {found}, not {MODEL_SHA256}.")
