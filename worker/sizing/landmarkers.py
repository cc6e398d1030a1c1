"""Landmarkers that many threads share: each is loaded when needed, and closed when it has not been used for a while."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.sizing.pose import MODEL_PATH, Landmarker, Pose


class Landmarkers:
    """Up to `most` landmarkers with the `detect` of one, for any number of threads."""

    def __init__(self, most: int, path: Path = MODEL_PATH, *, gpu: bool = False) -> None:
        self._path, self._gpu = path, gpu
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        # With the time of the last use. The latest is used next, so that the others can be closed.
        self._idle: list[tuple[Landmarker, float]] = []

    @property
    def idle(self) -> int:
        """Number of loaded landmarkers that no thread uses."""
        return len(self._idle)

    def prove(self) -> None:
        """Load the model once, so that an unusable one is found before the first request."""
        with self._borrowed():
            pass
        self.close_unused(0)

    def detect(self, pixels: NDArray[np.uint8]) -> list[Pose]:
        """Wait for a free landmarker, and call its `detect`."""
        with self._borrowed() as landmarker:
            return landmarker.detect(pixels)

    def close_unused(self, seconds: float) -> int:
        """Close what was unused for this time, but nothing on a GPU, which compiles for seconds. Return the number."""
        return 0 if self._gpu else self._close_unused(seconds)

    def close(self) -> None:
        """Free the native memory; no thread may use the landmarkers any more."""
        self._close_unused(0)

    def _close_unused(self, seconds: float) -> int:
        limit = time.monotonic() - seconds
        with self._lock:
            unused = [landmarker for landmarker, used_at in self._idle if used_at <= limit]
            self._idle = [each for each in self._idle if each[0] not in unused]
        for landmarker in unused:
            landmarker.close()
        return len(unused)

    @contextmanager
    def _borrowed(self) -> Iterator[Landmarker]:
        with self._free:
            with self._lock:
                landmarker = self._idle.pop()[0] if self._idle else None
            landmarker = landmarker or Landmarker(self._path, gpu=self._gpu)
            try:
                yield landmarker
            finally:
                with self._lock:
                    self._idle.append((landmarker, time.monotonic()))
