"""Modes of pictures: what cannot be resized without loss, and what a JPEG cannot have."""

from PIL import Image


def smooth(image: Image.Image) -> Image.Image:
    """`image` in a mode that resizes without loss and keeps its colour space: L, LA, RGB, RGBA or CMYK."""
    if image.mode.startswith("I"):
        return _eight_bits(image)
    if image.has_transparency_data:
        mode = "LA" if image.mode in ("1", "L", "LA") else "RGBA"
    else:
        mode = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
    return image if mode == image.mode else image.convert(mode)


def on_white(image: Image.Image) -> Image.Image:
    """`image` in mode L, RGB or CMYK."""
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new(image.mode.removesuffix("A"), image.size, "white")
    white.paste(image, mask=image)
    return white


def _eight_bits(image: Image.Image) -> Image.Image:
    """16 bits of grey as 8; `convert` alone would clip them instead of scaling."""
    grey = image.point(lambda value: value * (1 / 257)).convert("L")
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        import numpy as np  # noqa: PLC0415  # 14 MB that hardly any picture needs

        grey.putalpha(Image.fromarray((np.asarray(image) != clear).astype(np.uint8) * np.uint8(255)))
    return grey
