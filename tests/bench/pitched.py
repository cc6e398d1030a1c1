"""Pictures as a camera that looks up or down would have taken them.

A phone on the floor or on a shelf is tilted until the person fits in. Turning a camera about its lens moves the pixels
by a homography that no distance enters, so that one rendered picture stands for every tilt. People are nearly flat, but
for their toes: a camera at 1.3 m sees them 9 cm below the heels, one on the floor beside them. That is corrected in the
traced outline.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import cos, radians, sin, tan

import numpy as np
from PIL import Image

from worker.sizing.rows import Array
from worker.sizing.silhouette import HEELS, TOES, Silhouette

#: Degrees, up positive, from which each picture's tilts are drawn.
TILTS = ((-14, -4), (4, 11), (11, 19), (19, 28))
_SIZE = (384, 512)
#: Metres from the tilted camera to the person, the height that it is aimed at, and its own lowest and highest.
_AWAY, _AIM, _HEIGHTS = (1.8, 3.5), 0.9, (0.08, 1.9)
#: Metres by which the toes are nearer to the camera than the trunk.
_TOES = 0.17


@dataclass(frozen=True)
class Tilted:
    """A picture as a tilted camera takes it, but for the feet."""

    picture: Image.Image
    #: What that camera sees below the heels, over what the rendered picture shows there.
    feet: float

    def correct(self, outline: Silhouette) -> Silhouette:
        """The outline with the feet as that camera sees them."""
        points = outline.pose.landmarks.copy()
        feet, down = [*HEELS, *TOES], points[:, 1]
        heels = min(float(down[list(HEELS)].mean()), outline.bottom - 1)
        below = [joint for joint in feet if down[joint] > heels]
        down[below] = heels + (down[below] - heels) * self.feet
        bottom = heels + (outline.bottom - heels) * self.feet
        return replace(outline, bottom=bottom, pose=replace(outline.pose, landmarks=points))


def tilted(picture: Image.Image, outline: Silhouette, notes: str, seed: int) -> Iterator[Tilted]:
    """The picture once per entry of TILTS, framed anew, every other one of them mirrored by chance."""
    rng, cameras = np.random.default_rng(seed), np.random.default_rng(10_000 + seed)
    found = re.search(r"(\d+) mm eq", notes)
    focal = float(found[1]) / 36 * picture.height if found else picture.height
    columns = np.flatnonzero((outline.pose.mask >= 0.5).any(axis=0))
    box = (float(columns[0]), outline.top, float(columns[-1]), outline.bottom)
    for low, high in TILTS:
        degrees = rng.uniform(low, high)
        view = _tilt(picture, box, focal, degrees, rng)
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view
        yield Tilted(view, _feet(notes, degrees, cameras))


def _feet(notes: str, degrees: float, cameras: np.random.Generator) -> float:
    away = cameras.uniform(*_AWAY)
    height = float(np.clip(_AIM - away * tan(radians(degrees)), *_HEIGHTS))
    found = re.search(r"([\d.]+) m; camera at ([\d.]+) m", notes)
    rendered = float(found[2]) / (float(found[1]) - _TOES) if found else 0.43
    return height / (away - _TOES) / rendered


def _tilt(
    picture: Image.Image, box: tuple[float, float, float, float], focal: float, degrees: float, rng: np.random.Generator
) -> Image.Image:
    left, top, right, bottom = box
    moved = _homography(picture.size, focal, degrees)
    corners = moved @ np.array([[left, top, 1], [right, top, 1], [left, bottom, 1], [right, bottom, 1]]).T
    x, y = corners[:2] / corners[2]
    scale = float(np.ptp(y)) / (rng.uniform(0.62, 0.92) * _SIZE[1])
    offset_y = (y.min() + y.max()) / 2 - scale * _SIZE[1] * rng.uniform(0.47, 0.53)
    offset_x = x.mean() - scale * _SIZE[0] * rng.uniform(0.45, 0.55)
    pad = picture.height
    frame = np.array([[scale, 0, offset_x], [0, scale, offset_y], [0, 0, 1]])
    source = np.array([[1, 0, pad], [0, 1, pad], [0, 0, 1]]) @ np.linalg.inv(moved) @ frame
    padded = Image.fromarray(np.pad(np.asarray(picture), ((pad, pad), (pad, pad), (0, 0)), mode="edge"))
    numbers = (source / source[2, 2]).ravel()[:8].tolist()
    return padded.transform(_SIZE, Image.Transform.PERSPECTIVE, numbers, Image.Resampling.BICUBIC)


def _homography(size: tuple[int, int], focal: float, degrees: float) -> Array:
    """Pixels of the picture to pixels of a camera that looks up by so many degrees more."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    camera = np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]])
    turned: Array = camera @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) @ np.linalg.inv(camera)
    return turned
