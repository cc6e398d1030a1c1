"""A worker as a rollout sees it, without the work: `run` answers HTTP, `doctor` checks."""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WRONG = os.environ["WRONG"]
HOLD = Path("/run/rollout/hold")
stopping = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """/ready, /health and /estimate-body, as a rollout and the load client expect them."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        state = "draining" if stopping.is_set() else "ready"
        ready = state == "ready" and WRONG != "unhealthy"
        health = {"state": state, "model_loaded": True, "redis_connected": True, "parts": {"celery": {"active": 0}}}
        refused = "127.0.0.1" in body.get("image_url", "")
        status = {"/ready": 200 if ready else 503, "/health": 200, "/estimate-body": 400 if refused else 200}
        content = json.dumps(health).encode()
        self.send_response(status.get(self.path, 404))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer

    def log_message(self, *_arguments: object) -> None:
        """The stand-in is silent."""


def _crash_after_the_switch() -> None:
    while HOLD.exists():
        time.sleep(0.2)
    time.sleep(5)
    os._exit(3)


def _stop(*_arguments: object) -> None:
    stopping.set()
    threading.Timer(1, os._exit, [0]).start()


if sys.argv[1] == "doctor":
    print("fail  redis: made to fail" if WRONG == "doctor" else "ok    everything")
    sys.exit(1 if WRONG == "doctor" else 0)
signal.signal(signal.SIGTERM, _stop)
if WRONG == "crash":
    threading.Thread(target=_crash_after_the_switch, daemon=True).start()
ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
