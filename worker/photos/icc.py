"""ICC profiles made of primaries, white point and curve, for pictures that declare their colours without one."""

import struct
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: Of 0 to 1: how much light an encoded value stands for.
Curve = Callable[[Floats], Floats]
#: White, red, green, blue as x, y; in the order of PNG's cHRM.
Corners = tuple[float, ...]

SRGB_PRIMARIES: Corners = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CURVE_POINTS = 4096


def power(exponent: float) -> Curve:
    return lambda values: values**exponent


def to_xyz(corners: Corners) -> Floats:
    """The matrix from linear red, green and blue to XYZ; raises LinAlgError or ZeroDivisionError if there is none."""
    white, *primaries = (_xyz(corners[at], corners[at + 1]) for at in range(0, 8, 2))
    columns = np.array(primaries).T
    return columns * np.linalg.solve(columns, white)


@lru_cache(maxsize=16)
def profile(corners: Corners, curve: Curve) -> bytes | None:
    """The profile, or None when the corners span no colours."""
    try:
        colorants = _adapted_to_d50(_xyz(*corners[:2])) @ to_xyz(corners)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    if not np.isfinite(colorants).all() or np.abs(colorants).max() > 2:
        return None
    points = np.round(np.clip(curve(np.linspace(0, 1, _CURVE_POINTS)), 0, 1) * 65535).astype(">u2")
    tags = {name: _number_tag(colorants[:, at]) for at, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + b"\0" * 78, b"wtpt": _number_tag(_D50)}
    tags[b"cprt"] = b"text\0\0\0\0none\0"
    shared = b"curv\0\0\0\0" + struct.pack(">I", _CURVE_POINTS) + points.tobytes()
    return _file(tags, shared, (b"rTRC", b"gTRC", b"bTRC"))


def _xyz(x: float, y: float) -> Floats:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adapted_to_d50(white: Floats) -> Floats:
    """Bradford's matrix, as the ICC specification wants it for white points other than its own."""
    return np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD  # type: ignore[no-any-return]


def _number_tag(values: Floats) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values.tolist()))


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
    illuminant = struct.pack(">3i", *(round(value * 65536) for value in _D50.tolist()))
    return head + b"\0" * 28 + illuminant + b"\0" * 48 + table + body + shared
