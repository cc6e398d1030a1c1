"""A photo host and the size service on loopback, both real servers, and the pose model."""

import asyncio
import csv
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from PIL import Image

from worker.health import Health
from worker.http.app import create_app
from worker.photos.decode import decode
from worker.settings import Settings
from worker.sizing.measurements import Measurer
from worker.sizing.pose import Landmarker

PICTURES = Path(__file__).parent / "pictures"


def truth() -> dict[str, dict[str, str]]:
    """The rows of the table by file name."""
    with (PICTURES / "truth.csv").open(newline="") as table:
        return {row["file"]: row for row in csv.DictReader(table)}


def picture(name: str) -> Image.Image:
    """A picture of the tests' data as the worker decodes it."""
    return decode((PICTURES / "images" / name).read_bytes())


def jpeg(image: Image.Image) -> bytes:
    """`image` encoded."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@dataclass
class PhotoHost:
    """Serves `files` and remembers what was asked for; a file's delay is how long it keeps the client waiting."""

    files: dict[str, bytes] = field(default_factory=dict)
    delays: dict[str, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, data: bytes, name: str = "photo.jpg", delay: float = 0) -> str:
        """Serve `data`; -> its URL."""
        self.files[f"/{name}"] = data
        self.delays[f"/{name}"] = delay
        return f"{self.origin}/{name}"


@pytest.fixture(scope="session")
def photo_host() -> Iterator[PhotoHost]:
    host = PhotoHost()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            host.asked.append(self.path)
            time.sleep(host.delays.get(self.path, 0))
            data = host.files.get(self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Type", "image/png" if self.path.endswith(".png") else "image/jpeg")
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.port = server.server_address[1]
    for path in (PICTURES / "images").iterdir():
        host.put(path.read_bytes(), path.name)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield host
    server.shutdown()


@dataclass
class Service:
    """A running size service."""

    base: str
    health: Health
    client: httpx.Client

    def estimate(self, url: str, height_cm: float = 170, **more: Any) -> httpx.Response:
        """POST /estimate-body."""
        headers = more.pop("headers", None)
        return self.client.post(
            "/estimate-body", json={"image_url": url, "height_cm": height_cm, **more}, headers=headers
        )


@contextmanager
def serving(host: PhotoHost, **more: Any) -> Iterator[Service]:
    """The service with these settings, on a port of its own."""
    settings = Settings(
        redis_url="redis://localhost:6379/0",
        supabase_url="https://supabase.example",
        supabase_service_role_key="secret",
        openai_api_key="secret",
        fetch_trusted_origins=[host.origin],
        **more,
    )
    health = Health(state="ready", redis_connected=True, database_connected=True)
    config = uvicorn.Config(create_app(settings, health), port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    _until(lambda: server.started)
    base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with httpx.Client(base_url=base, timeout=30) as client:
        yield Service(base, health, client)
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="session")
def service(photo_host: PhotoHost) -> Iterator[Service]:
    """The service with its model loaded."""
    with serving(photo_host) as running:
        _until(lambda: running.health.model_loaded)
        yield running


@pytest.fixture(scope="session")
def landmarker() -> Iterator[Landmarker]:
    with Landmarker() as found:
        yield found


@pytest.fixture(scope="session")
def measurer() -> Measurer:
    return Measurer()


def _until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
