"""The HTTP half of the sandbox as a process of its own, so that its processor time can be told from the worker's.

Started by `Sandbox` with three listening sockets; everything else is said over `POST /__control` of each port.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.sandbox.control import Control
from tests.sandbox.loops import abort
from tests.sandbox.openai.images import OpenAIImages
from tests.sandbox.photos.host import PhotoHost
from tests.sandbox.supabase.gateway import Gateway

PICTURES = Path(__file__).parent / "photos" / "pictures"


class _Protocol(H11Protocol):
    """Gives the application the means to reset its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        application = self.app

        async def with_drop(scope: Scope, receive: Receive, send: Send) -> None:
            scope["sandbox.drop"] = partial(abort, transport)
            await application(scope, receive, send)

        self.app = with_drop


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals as they are: SIGTERM ends the process, there is nothing to save."""
        yield


async def serve(gateway_fd: int, openai_fd: int, photos_fd: int) -> None:
    """Serve the three until the process is ended."""
    secret, openai_key = os.environ["SANDBOX_SECRET"], os.environ["OPENAI_API_KEY"]
    gateway = Gateway(secret, os.environ["SANDBOX_BUCKETS"].split(","))
    openai = OpenAIImages(openai_key)
    photos = PhotoHost({file.name: file.read_bytes() for file in PICTURES.glob("*.jpg")})
    gc.freeze()  # pictures and modules stay for good
    applications: list[tuple[int, ASGIApp]] = [
        (gateway_fd, Control(gateway.app, gateway.commands, gateway.content)),
        (openai_fd, Control(openai.app, openai.commands, openai.content)),
    ]
    server = await asyncio.start_server(photos.serve, sock=_listener(photos_fd))
    async with server:
        await asyncio.gather(*(_http(application, _listener(fd)) for fd, application in applications))


async def _http(application: ASGIApp, listener: socket.socket) -> None:
    config = uvicorn.Config(
        application,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_level="critical",
        backlog=2048,
        timeout_keep_alive=75,
    )
    await _Server(config).serve(sockets=[listener])


def _listener(fd: int) -> socket.socket:
    listener = socket.socket(fileno=fd)
    listener.setblocking(False)
    return listener


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("gateway-fd", "openai-fd", "photos-fd"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.gateway_fd, options.openai_fd, options.photos_fd))
