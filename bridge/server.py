"""The HTTP contract of grafana-whatsapp-webhook, and what pairing and monitoring ask. Internal network only, no TLS.

POST /whatsapp/send/grafana-alert/{user|group}/{id}   bearer, {"message": "..."}: 200 sent, 400, 401, 413, 502, 503, 504
GET  /healthy    200 when linked, else 503 with the reason       GET /alive    200 as long as the process serves
GET  /metrics    Prometheus                                      GET, POST /pair    bearer; bridge/commands.py
"""

import hmac
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bridge import metrics
from bridge.delivery import Deliveries
from bridge.link import Link, NotLinkedError
from bridge.logs import log

MAXIMUM_BODY_BYTES = 1 << 20
PATH = re.compile(r"/whatsapp/send/grafana-alert/(user|group)/\+?([0-9-]{5,40})(?:@[a-z.]+)?")
PHONE = re.compile(r"\+?[1-9][0-9]{6,14}")


class RefusedError(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def serve(port: int, secret: str, link: Link, deliveries: Deliveries) -> ThreadingHTTPServer:
    """Listen from now on; requests are answered in threads."""
    handler = type("BridgeHandler", (Handler,), {"secret": secret, "link": link, "deliveries": deliveries})
    server = Server(("", port), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    return server


class Server(ThreadingHTTPServer):
    """The listening server."""

    daemon_threads = False  # a message in flight is sent before the process ends

    def handle_error(self, *_: object) -> None:
        """Log a client that went away in one line."""
        log("request_broken", level="warning", error=type(sys.exception()).__name__)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    timeout = 30  # of a client that is slow
    secret: str
    link: Link
    deliveries: Deliveries

    def do_GET(self) -> None:
        """Answer monitoring and the pairing."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Send a message or begin a pairing."""
        self._answer(self._post)

    def _get(self) -> tuple[int, str]:
        link = self.link
        match self.path:
            case "/healthy":
                return (200, "OK") if link.state == "linked" else (503, link.reason)
            case "/alive":
                return 200, "OK"
            case "/metrics":
                return 200, metrics.page(link.state, self.deliveries)
            case "/pair":
                self._check_bearer()
                attempt = link.attempt.view() if link.attempt else {}
                return 200, json.dumps({"state": link.state, "reason": link.reason, **attempt})
        return 404, "not found"

    def _post(self) -> tuple[int, str]:
        body = self._read_body()
        target = PATH.fullmatch(self.path)
        if not target and self.path != "/pair":
            return 404, "not found"
        self._check_bearer()
        content = parse(body)
        try:
            if not target:
                phone = content.get("phone", "")
                if phone and not (isinstance(phone, str) and PHONE.fullmatch(phone)):
                    return 400, "phone must be a number with the country code, like +491701234567"
                self.link.pair(phone)
                return 200, "OK"
            message = content.get("message")
            if not isinstance(message, str) or not message.strip():
                return 400, "message is required"
            return self._send(target[1], target[2], message)
        except NotLinkedError as error:
            return (503, str(error)) if target else (409, str(error))

    def _send(self, kind: str, to: str, message: str) -> tuple[int, str]:
        try:
            self.link.send(kind, to, message)
        except NotLinkedError:
            raise
        except TimeoutError:
            log("message_failed", level="error", kind=kind, error="no answer in time")
            return 504, "WhatsApp has not confirmed the message in time; it may still arrive"
        except Exception as error:
            log("message_failed", level="error", kind=kind, error=str(error).replace(to, "..."))
            return 502, f"WhatsApp has not taken the message: {error}"
        log("message_sent", kind=kind)
        return 200, "Message sent"

    def _check_bearer(self) -> None:
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.secret}".encode()):
            raise RefusedError(401, "unauthorized")

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise RefusedError(411, "Content-Length is required")
        if int(length) > MAXIMUM_BODY_BYTES:
            self.close_connection = True
            raise RefusedError(413, f"The body has {length} bytes; the limit is {MAXIMUM_BODY_BYTES}")
        return self.rfile.read(int(length))

    def _answer(self, handle: Any) -> None:
        try:
            status, text = handle()
        except RefusedError as error:
            status, text = error.status, str(error)
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing: the path carries phone numbers."""


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object of a body."""
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "The body is no JSON") from error
    if not isinstance(content, dict):
        raise RefusedError(400, "The body is no JSON object")
    return content
