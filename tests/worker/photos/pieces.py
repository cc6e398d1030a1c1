"""Pictures and their parts, put together byte by byte: what encoders do not write on request."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import Image

PICTURES = Path(__file__).parent / "pictures"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    """One chunk of a PNG."""
    found = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", found)


def before_pixels(png: bytes, *chunks: bytes) -> bytes:
    at = png.index(b"IDAT") - 4
    return png[:at] + b"".join(chunks) + png[at:]


def fixed(*values: float) -> bytes:
    """Numbers as ICC profiles have them."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def icc(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"sRGB\0" + b"\0" * 78,
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249),
        b"cprt": b"text\0\0\0\0none\0",
        **tags,
    }
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s", 128 + len(table + body), b"lcms", 0x02400000, kind, space, pcs) + b"\0" * 12
    return head + b"acsp" + b"\0" * 28 + fixed(0.9642, 1, 0.8249) + b"\0" * 48 + table + body


#: Published D50 colorants of the profiles that come with macOS and with colour-science's tables.
COLORANTS = {
    "sRGB": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
    "P3": ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
    "BT.2020": ((0.67348, 0.27903, -0.00194), (0.16566, 0.67534, 0.02998), (0.12507, 0.04561, 0.79686)),
    "ProPhoto": ((0.79767, 0.28804, 0.0), (0.13519, 0.71187, 0.0), (0.03134, 0.00009, 0.82491)),
}
SRGB_CURVE = b"para\0\0\0\0\0\3\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT709_CURVE = b"para\0\0\0\0\0\3\0\0" + fixed(1 / 0.45, 1 / 1.0993, 0.0993 / 1.0993, 1 / 4.5, 0.08124)


def gamma(exponent: float) -> bytes:
    return b"para\0\0\0\0\0\0\0\0" + fixed(exponent)


def rgb_profile(colorants: str, curve: bytes = SRGB_CURVE) -> bytes:
    """A profile whose name contains "sRGB" whatever it is."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    colours = {name: b"XYZ \0\0\0\0" + fixed(*xyz) for name, xyz in zip(names, COLORANTS[colorants], strict=True)}
    return icc(b"RGB ", colours | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_profile() -> bytes:
    return icc(b"GRAY", {b"kTRC": gamma(1.2)})
