"""A copy of the picture that shows what was measured: outline, levels, widths and hidden edges."""

import numpy as np
from PIL import Image, ImageDraw

from worker.sizing.silhouette import TORSO_LEVELS, Silhouette

OUTLINE = (255, 40, 40)
WIDTH = (40, 220, 80)
HIDDEN = (60, 120, 255)
BONE = (250, 220, 60)

_BONES = ((11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (11, 23), (12, 24), (23, 24), (23, 25), (25, 27), (24, 26))
_LEVELS = {"chest": 0.4, "waist": 0.75, "hip": 1.15}


def annotate(picture: Image.Image, silhouette: Silhouette, height_cm: float) -> Image.Image:
    """Outline red, torso edges green (blue where an arm hides them), widths in cm at three levels, crown and floor."""
    inside = silhouette.pose.mask >= 0.5
    edge = inside.copy()
    edge[1:-1, 1:-1] &= ~(inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:])
    pixels = np.array(picture)
    pixels[edge] = OUTLINE
    drawn = Image.fromarray(pixels)
    draw = ImageDraw.Draw(drawn)
    points = silhouette.pose.landmarks[:, :2]
    for first, second in (*_BONES, (26, 28)):
        draw.line([tuple(points[first]), tuple(points[second])], fill=BONE, width=1)
    for row, (left, right), hidden in zip(silhouette.torso_y, silhouette.torso_x, silhouette.hidden, strict=True):
        for x, is_hidden in ((left, hidden[0]), (right, hidden[1])):
            draw.ellipse([x - 1.5, row - 1.5, x + 1.5, row + 1.5], fill=HIDDEN if is_hidden else WIDTH)
    per_pixel = height_cm / silhouette.height
    for name, level in _LEVELS.items():
        index = int(abs(TORSO_LEVELS - level).argmin())
        (left, right), y = silhouette.torso_x[index], silhouette.torso_y[index]
        draw.line([(left, y), (right, y)], fill=WIDTH, width=2)
        draw.text((left + 8, y - 6), f"{name} level: {(left - right) * per_pixel:.1f} cm wide", fill=WIDTH)
    for y in (silhouette.top, silhouette.bottom):
        draw.line([(0, y), (picture.width, y)], fill=OUTLINE, width=1)
    draw.text((4, silhouette.bottom - 14), f"{height_cm:g} cm = {silhouette.height:.0f} px", fill=OUTLINE)
    return drawn
