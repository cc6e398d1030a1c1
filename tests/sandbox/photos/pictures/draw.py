"""Draws the garment and the accessory: `python -m tests.sandbox.photos.pictures.draw` writes them beside this file."""

from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

HERE = Path(__file__).parent
SIDE, SCALE = 800, 2  # drawn larger and scaled down, for smooth edges
_SHIRT = [
    (300, 60), (335, 92), (400, 106), (465, 92), (500, 60), (600, 78), (672, 120), (752, 330), (640, 388), (606, 300),
    (622, 740), (400, 756), (178, 740), (194, 300), (160, 388), (48, 330), (128, 120), (200, 78),
]  # fmt: skip


def shirt(base: str, stripe: str, trim: str) -> Image.Image:
    """A striped T-shirt on white."""
    mask = Image.new("L", _size(), 0)
    ImageDraw.Draw(mask).polygon(_scaled(_SHIRT), fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(5 * SCALE)).point(lambda value: 255 if value > 127 else 0)
    cloth = Image.new("RGB", _size(), base)
    draw = ImageDraw.Draw(cloth)
    for top in range(210, 700, 62):
        draw.rectangle(_scaled_box(0, top, SIDE, top + 24), fill=stripe)
    draw.line(_scaled([(300, 60), (335, 92), (400, 106), (465, 92), (500, 60)]), fill=trim, width=34 * SCALE)
    for sleeve in ([(752, 330), (640, 388)], [(160, 388), (48, 330)]):
        draw.line(_scaled(sleeve), fill=trim, width=30 * SCALE)
    draw.rectangle(_scaled_box(430, 250, 530, 365), fill=trim)
    return _on_white(cloth, mask)


def hat(straw: str, band: str) -> Image.Image:
    """A straw hat on white."""
    mask = Image.new("L", _size(), 0)
    draw = ImageDraw.Draw(mask)
    draw.ellipse(_scaled_box(40, 440, 760, 640), fill=255)
    draw.rounded_rectangle(_scaled_box(220, 190, 580, 560), radius=120 * SCALE, fill=255)
    cloth = Image.new("RGB", _size(), straw)
    draw = ImageDraw.Draw(cloth)
    for offset in range(-SIDE, SIDE, 22):
        draw.line(_scaled([(offset, 0), (offset + SIDE, SIDE)]), fill="#d8b56f", width=4 * SCALE)
    draw.rectangle(_scaled_box(215, 420, 585, 505), fill=band)
    return _on_white(cloth, mask)


def _on_white(cloth: Image.Image, mask: Image.Image) -> Image.Image:
    """Darker towards the edge, so that it looks round."""
    shade = mask.filter(ImageFilter.GaussianBlur(40 * SCALE)).point(lambda value: 120 + round(value * 0.53))
    cloth = ImageChops.multiply(cloth, shade.convert("RGB"))
    canvas = Image.new("RGB", _size(), "white")
    canvas.paste(cloth, mask=mask)
    return canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _size() -> tuple[int, int]:
    return SIDE * SCALE, SIDE * SCALE


def _scaled(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(x * SCALE, y * SCALE) for x, y in points]


def _scaled_box(left: int, top: int, right: int, bottom: int) -> tuple[int, int, int, int]:
    return left * SCALE, top * SCALE, right * SCALE, bottom * SCALE


if __name__ == "__main__":
    for name, picture in {
        "garment.jpg": shirt("#f4f1ea", "#27456f", "#c8553d"),
        "garment2.jpg": shirt("#2f6f62", "#e8c468", "#f4f1ea"),
        "hat.jpg": hat("#ecd49a", "#7a2e2e"),
    }.items():
        picture.save(HERE / name, quality=85, optimize=True)
