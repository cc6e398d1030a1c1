"""Customers' pictures, good, odd and hostile: what reaches OpenAI, and what ends in failed + refunded."""

import io
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from PIL import Image

from tests.integration.conftest import Ended
from tests.integration.worker_process import WorkerProcess
from tests.sandbox import Sandbox


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def left_red_right_blue(size: tuple[int, int] = (1600, 800), mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    return image.convert(mode)


def rotated_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: red ends up at the top
    return encode(left_red_right_blue(), "JPEG", exif=exif)


def with_alpha() -> bytes:
    image = left_red_right_blue(mode="RGBA")
    image.putalpha(0)
    return encode(image, "PNG")


def sixteen_bit() -> bytes:
    """An RGB PNG of 16 bits a channel, which Pillow reads but does not write."""
    width, height = 64, 32
    row = b"\x00" + b"".join(struct.pack(">3H", 0xFFFF, 0, 0) for _ in range(width))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")


def animated() -> bytes:
    frames = [Image.new("RGB", (300, 200), colour) for colour in ("red", "green", "blue")]
    return encode(frames[0], "WEBP", save_all=True, append_images=frames[1:])


RED, WHITE, GREY = (254, 0, 0), (255, 255, 255), (76, 76, 76)
GOOD: dict[str, tuple[Callable[[], bytes], str, tuple[int, int], tuple[int, int, int]]] = {
    "EXIF-rotated JPEG": (rotated_by_exif, "image/jpeg", (512, 1024), RED),
    "transparent PNG": (with_alpha, "image/png", (1024, 512), WHITE),
    "WebP": (lambda: encode(left_red_right_blue(), "WEBP"), "image/webp", (1024, 512), RED),
    "grayscale JPEG": (lambda: encode(left_red_right_blue(mode="L"), "JPEG"), "image/jpeg", (1024, 512), GREY),
    "CMYK JPEG": (lambda: encode(left_red_right_blue(mode="CMYK"), "JPEG"), "image/jpeg", (1024, 512), RED),
    "palette PNG": (lambda: encode(left_red_right_blue(mode="P"), "PNG"), "image/png", (1024, 512), RED),
    "16-bit PNG": (sixteen_bit, "image/png", (64, 32), RED),
    "animated WebP": (animated, "image/webp", (300, 200), RED),
    "12-megapixel JPEG": (
        lambda: encode(left_red_right_blue((4032, 3024)), "JPEG"), "image/jpeg", (1024, 768), RED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_openai_gets_an_upright_rgb_jpeg_of_at_most_1024_pixels(
    around: Sandbox, ended: Ended, marker: str, name: str
) -> None:
    make, content_type, size, top_left = GOOD[name]
    photo = around.photos.put(f"{marker}.img", make(), content_type=content_type)
    row = ended(around.producer.b2c(prompt=marker, images=[photo, around.photos.url("garment.jpg")]))
    assert row["status"] == "completed"
    image = Image.open(io.BytesIO(around.calls(marker)[0].images[0].data))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    assert image.size == pytest.approx(size, abs=20)
    assert image.getexif() == {}
    assert image.getpixel((5, 5)) == pytest.approx(top_left, abs=12)


@pytest.mark.parametrize("count", [1, 16])
def test_one_to_sixteen_pictures_are_sent_in_their_order(
    around: Sandbox, ended: Ended, marker: str, count: int
) -> None:
    photos = [
        around.photos.put(f"{marker}-{number}.png", encode(Image.new("RGB", (20 + number, 30)), "PNG"))
        for number in range(count)
    ]
    assert ended(around.producer.b2c(prompt=marker, images=photos))["status"] == "completed"
    (call,) = around.calls(marker)
    assert [Image.open(io.BytesIO(part.data)).width for part in call.images] == [20 + number for number in range(count)]


def bomb() -> bytes:
    """A PNG of 20 000 x 20 000 pixels in 50 kB."""
    return encode(Image.new("1", (20_000, 20_000)), "PNG")


JPEG = encode(left_red_right_blue(), "JPEG")
BAD: dict[str, dict[str, Any]] = {
    "not found": {"status": 404, "data": b"no such picture"},
    "web page": {"data": b"<html></html>", "content_type": "text/html"},
    "web page that claims to be a JPEG": {"data": b"<html></html>" * 100, "content_type": "image/jpeg"},
    "picture that claims to be a web page": {"data": JPEG, "content_type": "text/html"},
    "11 MB": {"data": JPEG + bytes(11_000_000), "content_type": "image/jpeg"},
    "11 MB of unknown length": {"data": JPEG + bytes(11_000_000), "content_type": "image/jpeg", "length": "chunked"},
    "endless": {"data": JPEG, "content_type": "image/jpeg", "endless": True, "length": "none"},
    "truncated JPEG": {"data": JPEG[: len(JPEG) // 2], "content_type": "image/jpeg"},
    "connection cut": {"data": JPEG, "content_type": "image/jpeg", "cut_after": len(JPEG) // 2},
    "decompression bomb": {"data": bomb, "content_type": "image/png"},
    "slow drip": {"data": JPEG, "content_type": "image/jpeg", "drip_bytes": 100, "drip_seconds": 0.5},
    "never answers": {"hang": True},
    "redirect": {"status": 302, "location": "/person.jpg"},
    "empty": {"data": b"", "content_type": "image/jpeg"},
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_fails_the_session_in_time_with_one_refund_and_no_call(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str, name: str
) -> None:
    memory = resident_bytes(worker)
    options = dict(BAD[name])
    data = options.pop("data", b"")
    # Made only here: each process of a test run reads this module.
    photo = around.photos.put(f"{marker}.img", data() if callable(data) else data, **options)
    queued = around.producer.b2c(prompt=marker, images=[photo])
    row = ended(queued, 8)  # FETCH_TIMEOUT_SECONDS of these tests is 3
    assert row["status"] == "failed"
    assert "photo" in row["error_message"]
    assert around.balance_changes(queued.owner_id) == [10, -1, 1]
    assert around.calls(marker) == []
    assert resident_bytes(worker) - memory < 100_000_000


def resident_bytes(worker: WorkerProcess) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in worker.children())


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A port on all addresses of this machine, and who connected to it."""
    connections: list[str] = []
    server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)

    def accept() -> None:
        while True:
            try:
                connection, address = server.accept()
            except OSError:
                return
            connections.append(address[0])
            connection.close()

    thread = threading.Thread(target=accept)
    thread.start()
    yield server.getsockname()[1], connections
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/a.jpg",
        "http://localhost:{port}/a.jpg",
        "http://0.0.0.0:{port}/a.jpg",
        "http://[::1]:{port}/a.jpg",
        "http://[::ffff:127.0.0.1]:{port}/a.jpg",
        "http://2130706433:{port}/a.jpg",
        "http://0x7f000001:{port}/a.jpg",
        "http://0177.0.0.1:{port}/a.jpg",
        "http://127.1:{port}/a.jpg",
        "http://user:password@127.0.0.1:{port}/a.jpg",
        "http://10.0.0.1/a.jpg",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/a.jpg",
        "http://224.0.0.1/a.jpg",
        "http://[fe80::1]/a.jpg",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/a.jpg",
        "gopher://127.0.0.1:{port}/",
        "//127.0.0.1:{port}/a.jpg",
        "not a url",
    ],
)
def test_an_address_inside_the_network_is_refused_without_a_connection(
    around: Sandbox, ended: Ended, marker: str, listener: tuple[int, list[str]], address: str
) -> None:
    port, connections = listener
    queued = around.producer.b2c(prompt=marker, images=[address.format(port=port)])
    assert ended(queued, 8)["status"] == "failed"
    assert around.balance_changes(queued.owner_id) == [10, -1, 1]
    assert connections == []
