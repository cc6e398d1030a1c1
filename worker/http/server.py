"""The container's HTTP server: uvicorn inside the supervisor's event loop, without its own signal handling."""

import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from worker.errors import WorkerError
from worker.health import Health
from worker.http import request_metrics
from worker.http.app import create_app
from worker.http.metrics_page import Page
from worker.settings import Settings

#: Longer than nginx keeps a quiet connection (60 s): only the side that sends requests may close first.
_KEEP_ALIVE_SECONDS = 75


class HttpServer(uvicorn.Server):
    """Serves until `should_exit` is set."""

    def __init__(self, settings: Settings, health: Health, page: Page) -> None:
        async def metrics(_: Request) -> Response:
            return Response(await page.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

        app = create_app(settings, health)
        app.add_route("/metrics", metrics, include_in_schema=False)
        request_metrics.instrument(app)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.http_host,
                port=settings.http_port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=5,
            )
        )

    async def serve_until_stopped(self) -> None:
        """Serve until `should_exit` is set; raises WorkerError for an address that cannot be used."""
        host, port = self.config.host, self.config.port
        try:
            listener = socket.create_server((host, port), backlog=self.config.backlog)
        except OSError as error:
            raise WorkerError(f"cannot listen on {host}:{port} (HTTP_HOST, HTTP_PORT): {error.strerror}") from None
        # Inherited by each connection. asyncio does it only for listeners of its own, and without it the body of every
        # answer waits for the client to acknowledge the head: 40 ms on a kept-alive connection.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self.serve(sockets=[listener])

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the supervisor."""
        yield
