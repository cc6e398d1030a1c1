"""Composes the given pictures into something that looks like a try-on: person, garment on the torso, accessories."""

import io
from functools import lru_cache
from hashlib import sha256

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

_CAPTION = 0.075
_GARMENT = (0.235, 0.168, 0.765, 0.52)  # of the picture: left, top, right, bottom
_KEY = (255, 0, 255)
_FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}

_cache: dict[str, bytes] = {}


def compose(pictures: list[bytes], size: str, output_format: str, model: str) -> bytes:
    """The picture as a file; the same input is composed once. Without pictures it is a canned one."""
    key = sha256(repr((size, output_format, model)).encode())
    for picture in pictures:
        key.update(sha256(picture).digest())
    if (name := key.hexdigest()) not in _cache:
        if len(_cache) > 64:
            _cache.clear()
        width, height = (int(side) for side in size.split("x"))
        _cache[name] = _file(_compose(pictures, width, height, model), output_format)
    return _cache[name]


def _compose(pictures: list[bytes], width: int, height: int, model: str) -> Image.Image:
    canvas = Image.new("RGB", (width, height), "#e9e4dc")
    body = (width, round(height * (1 - _CAPTION)))
    if pictures:
        person = _open(pictures[0]).convert("RGB")
        canvas.paste(ImageOps.fit(person, body, Image.Resampling.BILINEAR, centering=(0.5, 0.3)), (0, 0))
    if pictures[1:]:
        _dress(canvas, _cut_out(_open(pictures[1])), body)
    for index, picture in enumerate(pictures[2:8]):
        _inset(canvas, _open(picture), index, width)
    _caption(canvas, body[1], f"{model} · {max(len(pictures) - 1, 0)} item{'s' * (len(pictures) != 2)}")
    return canvas


def _open(picture: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(picture))
    image.draft("RGB", (1024, 1536))
    return image.convert("RGBA")


def _cut_out(garment: Image.Image) -> Image.Image:
    """Make the plain background around the garment transparent and crop to what is left."""
    small = garment.convert("RGB").resize((240, 240))  # flood filling is slow, so on a small copy
    for corner in ((0, 0), (239, 0), (0, 239), (239, 239)):
        ImageDraw.floodfill(small, corner, _KEY, thresh=60)
    background = ImageChops.difference(small, Image.new("RGB", small.size, _KEY)).convert("L")
    # One pixel smaller, so that nothing of the background stays at the edge.
    mask = background.point(lambda value: 255 if value else 0).filter(ImageFilter.MinFilter(3))
    mask = mask.resize(garment.size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(5))
    mask = mask.point(lambda value: min(255, max(0, (value - 112) * 8)))
    garment.putalpha(ImageChops.multiply(mask, garment.getchannel("A")))
    return garment.crop(garment.getbbox() or (0, 0, *garment.size))


def _dress(canvas: Image.Image, garment: Image.Image, body: tuple[int, int]) -> None:
    left, top, right, bottom = (round(share * body[index % 2]) for index, share in enumerate(_GARMENT))
    garment = ImageOps.contain(garment, (right - left, bottom - top), Image.Resampling.BILINEAR)
    place = ((left + right - garment.width) // 2, top)
    shadow = Image.new("RGBA", garment.size, "#00000000")
    shadow.putalpha(garment.getchannel("A").point(lambda value: value // 3).filter(ImageFilter.GaussianBlur(9)))
    canvas.paste(shadow, (place[0] + 8, place[1] + 12), shadow)
    canvas.paste(garment, place, garment)


def _inset(canvas: Image.Image, picture: Image.Image, index: int, width: int) -> None:
    side, gap = width // 5, width // 40
    frame = Image.new("RGBA", (side, side), "#ffffff")
    frame.paste(ImageOps.fit(picture, (side - 8, side - 8), Image.Resampling.BILINEAR), (4, 4))
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side - 1, side - 1), side // 8, fill=255)
    canvas.paste(frame, (width - side - gap, gap + index * (side + gap)), mask)


def _caption(canvas: Image.Image, top: int, text: str) -> None:
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, top, canvas.width, canvas.height), fill="#1f2430")
    draw.rectangle((0, top, canvas.width, top + 4), fill="#e0a458")
    middle = (top + canvas.height) // 2
    draw.text((canvas.width // 25, middle), "WearOn sandbox", "#ffffff", _font(canvas.width // 24), anchor="lm")
    draw.text((canvas.width * 24 // 25, middle), text, "#b9c0cf", _font(canvas.width // 38), anchor="rm")


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _file(image: Image.Image, output_format: str) -> bytes:
    output = io.BytesIO()
    image.save(output, _FORMATS.get(output_format, "PNG"), quality=88)
    return output.getvalue()
