"""A WebP reduced to what makes its picture: libwebp wants every length around it to be exact."""

MAGIC = (b"RIFF", b"WEBP")
_KEPT = frozenset({b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L", b"EXIF"})
#: A film has more frames than a photo has chunks; only the first frame is wanted.
MAX_CHUNKS = 2000


def is_webp(data: bytes) -> bool:
    return (data[:4], data[8:12]) == MAGIC


def bare(data: bytes) -> bytes:
    """`data` without XMP, unknown chunks and EXIF that is cut off, under a header with the right length."""
    parts, position = [], 12
    for _ in range(MAX_CHUNKS):
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        end = position + 8 + size
        # A picture that is cut off stays so: libwebp says it.
        if len(kind) < 4 or (end > len(data) and kind == b"EXIF"):
            break
        if kind in _KEPT:
            parts.append(data[position:end] + b"\0" * (size % 2))
        position = end + size % 2
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
