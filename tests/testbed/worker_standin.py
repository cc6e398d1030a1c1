"""A worker that answers and does nothing, for scenarios about its surroundings: /health, /ready, /estimate-body."""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STARTED = time.time()


class Handler(BaseHTTPRequestHandler):
    """Says which version answers and which request id arrived."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        ready = time.time() - STARTED >= float(os.environ.get("READY_AFTER", "0"))
        known = {"/health": 200, "/ready": 200 if ready else 503, "/estimate-body": 200, "/metrics": 200}
        status = known.get(self.path.split("?")[0], 404)
        body = json.dumps(
            {"status": "ok", "version": os.environ.get("VERSION", ""), "request_id": self.headers.get("X-Request-Id")}
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_HEAD = _answer

    def log_message(self, *_args: object) -> None:
        """The stand-in is silent."""


server = ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
