"""Good pictures made bad in the ways that the quality gate must notice, one function per way."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from worker.sizing.answers import Reason
from worker.sizing.pose import Pose
from worker.sizing.silhouette import HIPS, KNEES, middle

Picture = Image.Image


@dataclass(frozen=True)
class Good:
    """A picture of one whole person, and another one beside it."""

    picture: Picture
    pose: Pose
    other: Picture

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The person's left, upper, right and lower border."""
        inside = self.pose.mask >= 0.5
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def cut_below(good: Good, share: float) -> Picture:
    """Cut the picture off below this share of the body, counted from the crown."""
    _, top, _, bottom = good.box
    return good.picture.crop((0, 0, good.picture.width, int(top + (bottom - top) * share)))


def cut_above(good: Good, share: float) -> Picture:
    """Cut the picture off above this share of the body."""
    _, top, _, bottom = good.box
    return good.picture.crop((0, int(top + (bottom - top) * share), good.picture.width, good.picture.height))


def beside(good: Good, scale: float) -> Picture:
    """A second person, `scale` times as large."""
    width, height = good.other.size
    second = good.other.resize((int(width * scale), int(height * scale)))
    canvas = Image.new("RGB", (good.picture.width + second.width, height), (128, 128, 128))
    canvas.paste(good.picture, (0, 0))
    canvas.paste(second, (good.picture.width, height - second.height))
    return canvas


def shrunk(good: Good, scale: float) -> Picture:
    """Move the person far away, into the middle of a wall of the picture's own colour."""
    width, height = good.picture.size
    wall = tuple(int(value) for value in np.asarray(good.picture)[:40].mean(axis=(0, 1)))
    canvas = Image.new("RGB", (width, height), wall)
    small = good.picture.resize((int(width * scale), int(height * scale)), Image.Resampling.LANCZOS)
    canvas.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
    return canvas


def thumbnail(good: Good, scale: float) -> Picture:
    """Reduce the picture to few pixels."""
    width, height = good.picture.size
    return good.picture.resize((int(width * scale), int(height * scale)), Image.Resampling.LANCZOS)


def darkened(good: Good, share: float) -> Picture:
    """Leave this share of the light."""
    return ImageEnhance.Brightness(good.picture).enhance(share)


def blurred(good: Good, radius: float) -> Picture:
    """Blur the picture."""
    return good.picture.filter(ImageFilter.GaussianBlur(radius))


def squeezed(good: Good, share: float) -> Picture:
    """Make the body as narrow as a turned one; the nearest to a side view that frontal pictures give."""
    return good.picture.resize((int(good.picture.width * share), good.picture.height))


def shortened_thighs(good: Good, share: float) -> Picture:
    """This share of the thighs is left, as of a person who sits facing the camera."""
    hips, knees = middle(good.pose, HIPS)[1], middle(good.pose, KNEES)[1]
    cut = int(hips + (knees - hips) * share)
    width, height = good.picture.size
    canvas = Image.new("RGB", (width, height - (int(knees) - cut)))
    canvas.paste(good.picture.crop((0, 0, width, cut)), (0, 0))
    canvas.paste(good.picture.crop((0, int(knees), width, height)), (0, cut))
    return canvas


def empty(good: Good, kind: float) -> Picture:
    """No person: the room beside them, plain colour, noise, or coloured balls."""
    size = good.picture.size
    rng = np.random.default_rng(int(good.box[0]))
    if kind == 0:
        return good.picture.crop((0, 0, max(64, good.box[0] - 10), size[1])).resize(size)
    if kind == 1:
        return Image.new("RGB", size, (180, 190, 200))
    if kind == 2:
        return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    canvas = Image.new("RGB", size, (235, 235, 235))
    draw = ImageDraw.Draw(canvas)
    for x, y, radius, red, green, blue in rng.integers((0, 0, 10, 0, 0, 0), (*size, 120, 256, 256, 256), (12, 6)):
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(int(red), int(green), int(blue)))
    return canvas


SPOILED: tuple[tuple[Reason, Callable[[Good, float], Picture], tuple[float, ...]], ...] = (
    ("no_person", empty, (0, 1, 2, 3)),
    ("several_people", beside, (1.0, 0.75, 0.5)),
    ("not_full_body", cut_below, (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97)),
    ("not_full_body", cut_above, (0.03, 0.06, 0.1, 0.13, 0.18)),
    ("side_view", squeezed, (0.45, 0.55, 0.65)),
    ("seated_or_bent", shortened_thighs, (0.2, 0.35, 0.5)),
    ("too_small", shrunk, (0.15, 0.2, 0.25, 0.3)),
    ("too_small", thumbnail, (0.1, 0.2, 0.3)),
    ("too_dark_or_blurred", darkened, (0.0, 0.02, 0.05, 0.08, 0.12)),
    ("too_dark_or_blurred", blurred, (6, 8, 10, 14, 20)),
)
