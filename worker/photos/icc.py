"""ICC profiles made of primaries, white point and curve, for pictures that declare their colours without one."""

import struct
import sys
from array import array
from collections.abc import Callable
from functools import lru_cache

Vector = tuple[float, float, float]
#: Columns: red, green, blue.
Matrix = tuple[Vector, Vector, Vector]
#: Of 0 to 1: how much light an encoded value stands for.
Curve = Callable[[float], float]
#: White, red, green, blue as x, y; in the order of PNG's cHRM.
Corners = tuple[float, ...]

SRGB_PRIMARIES: Corners = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_D50: Vector = (0.9642, 1.0, 0.8249)
#: Bradford's matrix and its inverse, by rows: the ICC specification's way to white points other than D50.
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_INVERSE = ((0.9869929, -0.1470543, 0.1599627), (0.4323053, 0.5183603, 0.0492912), (-0.0085287, 0.0400428, 0.9684867))
_CURVE_POINTS = 4096


@lru_cache(maxsize=16)
def power(exponent: float) -> Curve:
    """The curve of a plain gamma; one object for each exponent, because `profile` keeps its results by curve."""
    return lambda value: value**exponent


def to_xyz(corners: Corners) -> Matrix:
    """The matrix from linear red, green and blue to XYZ; raises ZeroDivisionError if the corners span no colours."""
    white, *primaries = (_xyz(corners[at], corners[at + 1]) for at in range(0, 8, 2))
    red, green, blue = primaries
    whole = _determinant(red, green, blue)
    shares = (
        _determinant(white, green, blue) / whole,
        _determinant(red, white, blue) / whole,
        _determinant(red, green, white) / whole,
    )
    return tuple(tuple(value * share for value in column) for column, share in zip(primaries, shares, strict=True))  # type: ignore[return-value]


@lru_cache(maxsize=16)
def profile(corners: Corners, curve: Curve) -> bytes | None:
    """The profile; None if the corners span no colours, or impossible ones."""
    try:
        white = _xyz(*corners[:2])
        colorants = [_adapted_to_d50(column, white) for column in to_xyz(corners)]
    except ZeroDivisionError:
        return None
    if not all(abs(value) <= 2 for column in colorants for value in column):
        return None
    points = array("H", (round(min(1.0, curve(at / (_CURVE_POINTS - 1))) * 65535) for at in range(_CURVE_POINTS)))
    if sys.byteorder == "little":
        points.byteswap()
    tags = {name: _number_tag(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
    tags |= {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + b"\0" * 78, b"wtpt": _number_tag(_D50)}
    tags[b"cprt"] = b"text\0\0\0\0none\0"
    shared = b"curv\0\0\0\0" + struct.pack(">I", _CURVE_POINTS) + points.tobytes()
    return _file(tags, shared, (b"rTRC", b"gTRC", b"bTRC"))


def _xyz(x: float, y: float) -> Vector:
    return x / y, 1.0, (1 - x - y) / y


def _determinant(a: Vector, b: Vector, c: Vector) -> float:
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        - b[0] * (a[1] * c[2] - a[2] * c[1])
        + c[0] * (a[1] * b[2] - a[2] * b[1])
    )  # fmt: skip


def _times(rows: tuple[Vector, Vector, Vector], vector: Vector) -> Vector:
    a, b, c = (sum(one * other for one, other in zip(row, vector, strict=True)) for row in rows)
    return a, b, c


def _adapted_to_d50(colour: Vector, white: Vector) -> Vector:
    seen, here, there = _times(_BRADFORD, colour), _times(_BRADFORD, white), _times(_BRADFORD, _D50)
    return _times(_INVERSE, tuple(value * to / of for value, of, to in zip(seen, here, there, strict=True)))  # type: ignore[arg-type]


def _number_tag(values: Vector) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _file(tags: dict[bytes, bytes], shared: bytes, sharing: tuple[bytes, ...]) -> bytes:
    first = 128 + 4 + 12 * (len(tags) + len(sharing))
    table, body = struct.pack(">I", len(tags) + len(sharing)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", first + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    for name in sharing:
        table += name + struct.pack(">II", first + len(body), len(shared))
    size = first + len(body) + len(shared)
    head = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ") + b"\0" * 12 + b"acsp"
    illuminant = struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return head + b"\0" * 28 + illuminant + b"\0" * 48 + table + body + shared
