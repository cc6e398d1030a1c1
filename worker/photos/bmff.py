"""AVIF and HEIC as boxes: which of the two it is, and the colours that its primary picture declares."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

_AVIF = frozenset({b"avif", b"avis"})
_HEIF = frozenset({b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
MAX_BOXES = 2000


class _Box(NamedTuple):
    kind: bytes
    start: int
    end: int


def kind(data: bytes) -> Literal["AVIF", "HEIF"] | None:
    """Tell the format by the brands of the first box; `mif1` alone is HEIF, and libheif says what it cannot read."""
    if data[4:8] != b"ftyp":
        return None
    size = int.from_bytes(data[:4])
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(size, 512), 4))]
    if _AVIF.intersection(brands):
        return "AVIF"
    return "HEIF" if _HEIF.intersection(brands) else None


def without_exif(data: bytes) -> bytes:
    """`data` whose EXIF item is of an unknown type: the orientation is a property, and broken EXIF spoils nothing."""
    meta = _find(data, b"meta", 0, len(data))
    if not meta or meta.end > len(data):
        return data
    return data[: meta.start] + data[meta.start : meta.end].replace(b"Exif", b"skip") + data[meta.end :]


def code_points(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of the `colr` property of kind nclx that belongs to the primary picture."""
    meta = _find(data, b"meta", 0, len(data))
    inside = _find(data, b"iprp", meta.start + 4, meta.end) if meta else None
    properties = _find(data, b"ipco", inside.start, inside.end) if inside else None
    if not meta or not inside or not properties:
        return None
    found = {}
    for number, box in enumerate(_boxes(data, properties.start, properties.end), 1):
        if box.kind == b"colr" and data[box.start : box.start + 4] == b"nclx" and box.end - box.start >= 8:
            body = data[box.start + 4 : box.start + 8]
            found[number] = (int.from_bytes(body[:2]), int.from_bytes(body[2:]))
    mine = _properties_of(data, inside, _primary(data, meta))
    return next((found[number] for number in mine if number in found), None)


def _boxes(data: bytes, start: int, end: int) -> Iterator[_Box]:
    for _ in range(MAX_BOXES):
        if start + 8 > min(end, len(data)):
            return
        size, head = int.from_bytes(data[start : start + 4]), 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16]), 16
        size = size or end - start
        if size < head:
            return
        yield _Box(data[start + 4 : start + 8], start + head, min(start + size, end))
        start += size


def _find(data: bytes, kind: bytes, start: int, end: int) -> _Box | None:
    return next((box for box in _boxes(data, start, end) if box.kind == kind), None)


def _primary(data: bytes, meta: _Box) -> int:
    box = _find(data, b"pitm", meta.start + 4, meta.end)
    return int.from_bytes(data[box.start + 4 : box.start + (6 if data[box.start] == 0 else 8)]) if box else 0


def _properties_of(data: bytes, inside: _Box, item: int) -> list[int]:
    """Numbers of the properties that an `ipma` box gives to the item."""
    for box in _boxes(data, inside.start, inside.end):
        if box.kind != b"ipma" or box.end - box.start < 8:
            continue
        id_bytes, wide = (2 if data[box.start] < 1 else 4), data[box.start + 3] & 1
        position = box.start + 8
        while position + id_bytes < box.end:
            count = data[position + id_bytes]
            first = position + id_bytes + 1
            step = 2 if wide else 1
            position, number = first + count * step, int.from_bytes(data[position : position + id_bytes])
            if number == item:
                mask = 0x7FFF if wide else 0x7F
                return [int.from_bytes(data[at : at + step]) & mask for at in range(first, position, step)]
    return []
