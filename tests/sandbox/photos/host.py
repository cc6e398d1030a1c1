"""A photo host that can be slow, endless, redirecting or lying. Plain asyncio, because frameworks refuse to lie."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.control import Commands, run

_REASONS = {200: "OK", 204: "No Content", 301: "Moved Permanently", 302: "Found", 404: "Not Found", 500: "Error"}
_TYPES = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "html": "text/html"}


@dataclass
class Photo:
    """The answer under one name. Sizes in bytes, times in seconds.

    `length` decides on Content-Length: "exact", "none" (closed at the end) or "chunked".
    """

    data: bytes = field(default=b"", repr=False)
    content_type: str = ""
    status: int = 200
    location: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    length: str = "exact"
    delay: float = 0
    drip_bytes: int = 0
    drip_seconds: float = 0.1
    cut_after: int | None = None
    endless: bool = False
    hang: bool = False


class PhotoHost:
    """`PUT /name` stores (options as JSON in X-Photo), `GET /name` serves."""

    def __init__(self, defaults: dict[str, bytes] | None = None) -> None:
        self._defaults = defaults or {}
        self.commands: Commands = {"reset": self.reset}
        self.reset()

    def reset(self) -> None:
        """Serve the default pictures alone."""
        self.photos = {name: Photo(data) for name, data in self._defaults.items()}

    def put(self, name: str, data: bytes, **options: Any) -> None:
        """Serve `data` under `name`; see Photo for the options."""
        self.photos[name] = Photo(data, **options)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request (asyncio's `client_connected_cb`)."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            method, target, *_ = first.split(" ")
            headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines if line)}
            name = target.lstrip("/").partition("?")[0]
            if method in ("PUT", "POST"):
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._answer(reader, writer, await self._store(method, name, headers, body), name)
            else:
                missing = Photo(b"not found", "text/plain", status=404)
                await self._answer(reader, writer, self.photos.get(name, missing), name)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _store(self, method: str, name: str, headers: dict[str, str], body: bytes) -> Photo:
        if method == "PUT":
            self.put(name, body, **json.loads(headers.get("x-photo", "{}")))
            return Photo(b"stored\n", "text/plain")
        status, answer = await run(self.commands, body) if name == "__control" else (405, b"")
        return Photo(answer, "application/json", status=status)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, photo: Photo, name: str
    ) -> None:
        await asyncio.sleep(photo.delay)
        if photo.hang:
            await reader.read()  # until the client gives up
            return
        writer.write(_head(photo, name))
        data = photo.data if photo.cut_after is None else photo.data[: photo.cut_after]
        step = photo.drip_bytes or len(data) or 1
        for at in range(0, len(data), step):
            await self._piece(writer, photo, data[at : at + step])
        while photo.endless:
            await self._piece(writer, photo, b"\xff" * (photo.drip_bytes or 65536))
        if photo.length == "chunked" and photo.cut_after is None:
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _piece(self, writer: asyncio.StreamWriter, photo: Photo, piece: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if photo.length == "chunked" else piece)
        await writer.drain()
        if photo.drip_bytes:
            await asyncio.sleep(photo.drip_seconds)


def _head(photo: Photo, name: str) -> bytes:
    headers = {"Connection": "close", **photo.headers}
    kind = photo.content_type or _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    if photo.status != 204:
        headers["Content-Type"] = kind
    if photo.location:
        headers["Location"] = photo.location
    if photo.length == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    elif photo.length != "none" and not photo.endless:
        headers["Content-Length"] = str(len(photo.data))
    lines = [f"HTTP/1.1 {photo.status} {_REASONS.get(photo.status, 'Status')}"]
    return "\r\n".join([*lines, *(f"{key}: {value}" for key, value in headers.items()), "", ""]).encode("latin-1")
