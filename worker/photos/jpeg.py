"""Facts about a JPEG that Pillow does not tell: the cost of decoding, and a way to read a file without its end."""

from worker.errors import ImageInvalid

MAGIC = b"\xff\xd8\xff"
#: Header segments; cameras write about ten. Pillow keeps a record of each, 100 bytes for every 4 of the file.
MAX_SEGMENTS = 2000
#: Scans of a progressive picture; encoders write about ten. Even one of 48 bytes is a pass over the whole picture:
#: 40 ms for 50 megapixels, while other large pictures wait.
MAX_SCANS = 100

#: The end of a picture, and bytes that a decoder takes for coded pixels where a picture lacks some.
END = b"\xff\xd9"
_PADDING = bytes((7 * number + 40) % 251 for number in range(2000))

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})


def coefficient_bytes(data: bytes) -> int:
    """Memory that libjpeg needs for coefficients: none for a picture in one scan, which it decodes row by row.

    Raises ImageInvalid without a picture, or for so many segments or scans that they only serve to cost time.
    """
    position = len(MAGIC) - 1
    frame = b""
    progressive = False
    for _ in range(MAX_SEGMENTS):
        position = data.find(b"\xff", position)
        if not 0 <= position < len(data) - 1:
            break
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        segment = data[position + 4 : position + 2 + int.from_bytes(data[position + 2 : position + 4])]
        if marker == _START_OF_SCAN:
            if not frame or not segment:
                break
            if not progressive and segment[0] >= frame[5]:
                return 0
            if data.count(b"\xff\xda", position) > MAX_SCANS:
                raise ImageInvalid(f"JPEG has more than {MAX_SCANS} scans.")
            return _all_coefficients(frame)
        if marker in _START_OF_FRAME and len(segment) >= 9:
            frame, progressive = segment, marker in _PROGRESSIVE
        position += 4 + len(segment)
    raise ImageInvalid("JPEG holds no picture, or hides it behind too many segments.")


def endings(data: bytes) -> tuple[bytes, bytes]:
    """`data` ended in two ways: both give the same picture if, and only if, all rows are there."""
    data = data.rstrip(b"\xff")  # the first half of a marker, or what may stand before one
    return data + END, data + _PADDING + END


def has_every_scan(data: bytes) -> bool:
    """Return True if the scans so far bring every coefficient of every component to its full precision."""
    data = without_metadata(data)  # a thumbnail has scans of its own
    exact: dict[int, set[int]] = {}
    position = data.find(b"\xff\xda")
    while 0 <= position < len(data) - 5:
        count = data[position + 4]
        spectrum_at = position + 5 + 2 * count
        components, spectrum = data[position + 5 : spectrum_at : 2], data[spectrum_at : spectrum_at + 3]
        for component in components:
            covered = exact.setdefault(component, set())
            if len(spectrum) == 3 and spectrum[2] & 15 == 0:
                covered.update(range(spectrum[0], min(spectrum[1], 63) + 1))
        position = data.find(b"\xff\xda", position + 2)
    return all(len(covered) == 64 for covered in exact.values())


def without_metadata(data: bytes) -> bytes:
    """`data` without application segments and comments, but for Adobe's, which says how inks are stored."""
    parts, position = [data[:2]], 2
    for _ in range(MAX_SEGMENTS):
        marker = data[position + 1 : position + 2]
        if data[position : position + 1] != b"\xff" or marker in (b"", b"\xda"):
            break
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if not (0xE0 <= marker[0] <= 0xED or marker[0] in (0xEF, 0xFE)):
            parts.append(data[position:end])
        position = end
    return b"".join([*parts, data[position:]])


def _all_coefficients(frame: bytes) -> int:
    """Return two bytes for each sample of each component; the sampling factors say how many there are."""
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    samplings = [(factors >> 4) * (factors & 15) for factors in frame[7::3]]
    return 2 * width * height * sum(samplings) // max(1, *samplings)
