"""A copy of the picture that shows what was measured: outline, levels, widths and hidden edges."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worker.sizing.silhouette import TORSO_LEVELS, Silhouette

OUTLINE = (255, 40, 40)
WIDTH = (40, 220, 80)
HIDDEN = (60, 120, 255)
BONE = (250, 220, 60)

_BONES = ((11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (11, 23), (12, 24), (23, 24), (23, 25), (25, 27), (24, 26))
_LEVELS = {"chest": 0.4, "waist": 0.75, "hip": 1.15}


def annotate(picture: Image.Image, silhouette: Silhouette, height_cm: float) -> Image.Image:
    """Outline red, torso edges green (blue where an arm hides them), widths in cm at three levels, crown and floor."""
    picture = picture.rotate(90 * silhouette.quarter_turns, expand=True)
    # The picture may be larger than the measured one.
    scale = picture.width / silhouette.pose.mask.shape[1]
    inside = np.asarray(Image.fromarray(silhouette.pose.mask).resize(picture.size)) >= 0.5
    edge = inside.copy()
    edge[1:-1, 1:-1] &= ~(inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:])
    pixels = np.array(picture)
    pixels[edge] = OUTLINE
    drawn = Image.fromarray(pixels)
    draw = ImageDraw.Draw(drawn)
    draw.font = ImageFont.load_default(max(12, picture.height // 56))
    points = silhouette.pose.landmarks[:, :2] * scale
    for first, second in (*_BONES, (26, 28)):
        draw.line([tuple(points[first]), tuple(points[second])], fill=BONE, width=1)
    torso_y, torso_x = silhouette.torso_y * scale, silhouette.torso_x * scale
    for row, (left, right), hidden in zip(torso_y, torso_x, silhouette.hidden, strict=True):
        for x, is_hidden in ((left, hidden[0]), (right, hidden[1])):
            draw.ellipse([x - 1.5, row - 1.5, x + 1.5, row + 1.5], fill=HIDDEN if is_hidden else WIDTH)
    per_pixel = height_cm / silhouette.height / scale
    for name, level in _LEVELS.items():
        index = int(abs(TORSO_LEVELS - level).argmin())
        (left, right), y = torso_x[index], torso_y[index]
        draw.line([(left, y), (right, y)], fill=WIDTH, width=2)
        label = f"{name} level: {(left - right) * per_pixel:.1f} cm wide"
        draw.text((4, y), label, fill=WIDTH, anchor="lm", stroke_width=2, stroke_fill="black")
    for y in (silhouette.top * scale, silhouette.bottom * scale):
        draw.line([(0, y), (picture.width, y)], fill=OUTLINE, width=1)
    label = f"{height_cm:g} cm = {silhouette.height * scale:.0f} px"
    draw.text((4, silhouette.bottom * scale - 4), label, fill=OUTLINE, anchor="lb", stroke_width=2, stroke_fill="black")
    return drawn
