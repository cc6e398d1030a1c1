#!/usr/bin/env python3
"""Stands in for Alloy: opens the log files that list-logs names, with the rights of its container, and sends each line
with the label `service` to Loki. As the real one it refuses wrong stages when it runs and not when it
validates; it does not apply them."""

import json
import os
import re
import signal
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from alloy_language import problems  # type: ignore[import-not-found]  # beside it in the image

TARGETS = Path("/etc/alloy/targets.d/containers.json")
sent = 0


def push(address: str, labels: dict[str, str], lines: list[str]) -> None:
    values = [[str(time.time_ns()), json.loads(line)["log"].rstrip("\n")] for line in lines]
    body = json.dumps({"streams": [{"stream": labels, "values": values}]}).encode()
    headers = {"Content-Type": "application/json"}  # Loki takes any other body for protobuf
    urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=5).close()


def follow(config: str) -> None:
    """Read what is new in every file, again and again."""
    global sent  # noqa: PLW0603
    address = re.search(r'url = "([^"]+)"', config)[1]  # type: ignore[index]
    host = re.search(r'host = "([^"]+)"', config)[1]  # type: ignore[index]
    offsets: dict[str, int] = {}
    while True:
        time.sleep(0.5)
        try:
            targets = json.loads(TARGETS.read_text())
        except (OSError, ValueError):
            continue
        for labels in (target["labels"] for target in targets):
            path = labels["__path__"]
            try:
                with open(path) as file:
                    offset = offsets.get(path, 0)
                    file.seek(offset if offset <= os.path.getsize(path) else 0)
                    lines = [line for line in file if line.endswith("\n")]
                    if lines:
                        push(address, {"service": labels["service"], "host": host}, lines)
                    offsets[path] = file.tell()
                    sent += len(lines)
            except OSError as error:
                print(json.dumps({"level": "warn", "msg": f"{path}: {error}"}), flush=True)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = {
            "/-/ready": "Alloy is ready.",
            "/metrics": f"# TYPE loki_write_sent_entries_total counter\nloki_write_sent_entries_total {sent}\n",
        }.get(self.path)
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_args: object) -> None:
        """Silent."""


configuration = Path(sys.argv[2]).read_text()
try:
    found = problems(configuration)
except ValueError as error:
    sys.exit(f"Error: {sys.argv[2]}: {error}")
if sys.argv[1] == "run":
    if found:
        sys.exit(f"Error: {sys.argv[2]}: " + "; ".join(found))
    storage = Path(next(word for word in sys.argv if word.startswith("--storage.path=")).partition("=")[2])
    storage.mkdir(exist_ok=True)
    (storage / "written").touch()
    threading.Thread(target=follow, args=(configuration,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # the first process of a container ignores it otherwise
    HTTPServer(("0.0.0.0", 12345), Handler).serve_forever()
