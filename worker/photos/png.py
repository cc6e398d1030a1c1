"""A PNG reduced to what makes its picture: Pillow refuses sound pictures for oddities in the rest."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from worker.errors import ImageInvalid
from worker.photos import code_points, icc
from worker.photos.colour import MAX_PROFILE_BYTES, Colours

MAGIC = b"\x89PNG\r\n\x1a\n"
#: Encoders write pixels in pieces of 8 kB and more: 1300 of them in 10 MB.
MAX_CHUNKS = 50_000

_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"eXIf")
_TRUE_COLOUR, _TRANSPARENT_BYTES = 2, {0: (2,), 2: (6,), 3: range(1, 257)}
#: What gAMA says of sRGB, 1 / 2.2, and how far encoders round it.
_SRGB_GAMMA, _GAMMA_TOLERANCE = 0.45455, 0.01


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    end: int
    sound: bool


def bare(data: bytes) -> tuple[bytes, Colours]:
    """`data` without metadata and further frames, and what it said about its colours; raises ImageInvalid."""
    parts, seen, depth_and_type = [MAGIC], {}, b""
    pixels = (0, 0)
    for chunk in _chunks(data):
        if chunk.kind == b"IDAT":
            if pixels[1] not in (0, chunk.start):
                break
            pixels = (pixels[0] or chunk.start, chunk.end)
        elif chunk.kind == b"IEND":
            break
        elif chunk.kind not in seen and (chunk.sound or chunk.kind[0] < ord("a")):
            body = data[chunk.start + 8 : chunk.end - 4]
            seen[chunk.kind] = body
            depth_and_type = body[8:10] if chunk.kind == b"IHDR" else depth_and_type
            if chunk.kind == b"tRNS" and (body := _transparent(body, *depth_and_type)):
                parts.append(_chunk(chunk.kind, body))
            elif chunk.kind in _KEPT and chunk.kind != b"tRNS" and body:
                parts.append(data[chunk.start : chunk.end])
    parts.append(data[slice(*pixels)])
    if pixels[1] <= len(data):
        parts.append(_chunk(b"IEND", b""))
    return b"".join(parts), _colours(seen)


def _chunks(data: bytes) -> Iterator[_Chunk]:
    position = len(MAGIC)
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return
        kind = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4])
        # The pixels have a checksum of their own inside.
        sound = (
            kind == b"IDAT" or zlib.crc32(memoryview(data)[position + 4 : end - 4]).to_bytes(4) == data[end - 4 : end]
        )
        yield _Chunk(kind, position, end, sound)
        position = end
    raise ImageInvalid(f"PNG has more than {MAX_CHUNKS:,} chunks.")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def _transparent(body: bytes, depth: int = 0, colour_type: int = -1) -> bytes:
    """The colour or palette entries that are transparent; Pillow reads 16 bits of colour as 8."""
    if len(body) not in _TRANSPARENT_BYTES.get(colour_type, ()):
        return b""
    if depth == 16 and colour_type == _TRUE_COLOUR:
        return struct.pack(">3H", *(value >> 8 for value in struct.unpack(">3H", body)))
    return body


def _colours(seen: dict[bytes, bytes]) -> Colours:
    """Choose by the precedence of the PNG specification (third edition, 4.3): cICP, iCCP, sRGB, then gAMA and cHRM."""
    if len(cicp := seen.get(b"cICP", b"")) == 4 and code_points.known(cicp[0], cicp[1]):
        return Colours(code_points=(cicp[0], cicp[1]))
    if profile := _unpacked(seen.get(b"iCCP", b"")):
        return Colours(profile)
    if b"sRGB" in seen or len(gamma := seen.get(b"gAMA", b"")) != 4 or not (encoding := int.from_bytes(gamma) / 1e5):
        return Colours()
    corners = seen.get(b"cHRM", b"")
    xy = [value / 1e5 for value in struct.unpack(">8I", corners)] if len(corners) == 32 else list(icc.SRGB_PRIMARIES)
    usual = all(abs(one - other) < 0.002 for one, other in zip(xy, icc.SRGB_PRIMARIES, strict=True))
    if usual and abs(encoding - _SRGB_GAMMA) < _GAMMA_TOLERANCE:
        return Colours()
    return Colours(icc.profile(tuple(xy), icc.power(1 / encoding)) or b"")


def _unpacked(body: bytes) -> bytes:
    name, _, packed = body.partition(b"\0")
    if not name or packed[:1] != b"\0":
        return b""
    try:
        profile = zlib.decompressobj().decompress(packed[1:], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return b""
    return profile if len(profile) <= MAX_PROFILE_BYTES else b""
