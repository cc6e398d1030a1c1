#!/usr/bin/env python3
"""Stands in for the WhatsApp bridge and speaks its contract: path, bearer, body with a non-empty `message`, 400, 401.

As the real one it answers nothing before it is paired, draws codes meanwhile, waits for ever when they have run out,
and ends in order on SIGINT only. The file data/scanned is the phone that scans the code. GET /__recorded shows what was
sent.
"""

import json
import os
import re
import signal
import sqlite3
import sys
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECRET = os.environ.get("WEBHOOK_SECRET", "")
CODES, CODE_SECONDS = 3, float(os.environ.get("CODE_SECONDS", "20"))
RECORDED: list[dict[str, Any]] = []


def log(text: str) -> None:
    print(f"{datetime.now():%Y/%m/%d %H:%M:%S} {text}", file=sys.stderr, flush=True)  # noqa: DTZ005


def pair() -> None:
    """Draw codes until one is scanned."""
    session = sqlite3.connect("data/sqlite3.db")
    session.execute("create table if not exists whatsmeow_device (jid text)")
    if session.execute("select 1 from whatsmeow_device").fetchone():
        return
    scanned = Path("data/scanned")
    for number in range(CODES):
        row = "█ ▀▄█" + ("▀▄ ██", "█▄ ▀█", "▀▀ ▄█")[number] * 4 + "████"
        print("\n".join(["█" * 29, *[row] * 13, "▀" * 29]), flush=True)
        Path("out/qr.png").write_bytes(b"\x89PNG code %d" % number)
        end = time.monotonic() + CODE_SECONDS
        while time.monotonic() < end:
            if scanned.exists():
                scanned.unlink()
                session.execute("insert into whatsmeow_device values ('4900000000:1@s.whatsapp.net')")
                session.commit()
                log("Login event: success")
                return
            time.sleep(0.2)
    log("Login event: timeout")
    while True:
        time.sleep(3600)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._send(*{"/healthy": (200, "OK"), "/__recorded": (200, json.dumps(RECORDED))}.get(self.path, (404, "")))

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 1 << 20))
        target = re.fullmatch(r"/whatsapp/send/grafana-alert/(user|group)/([^/]+)", self.path)
        if not target:
            return self._send(404, "")
        if self.headers.get("Authorization", "") != f"Bearer {SECRET}":
            return self._send(401, "unauthorized")
        try:
            message = json.loads(body).get("message", "")
        except ValueError:
            return self._send(400, "error decoding alert")
        if not message:
            return self._send(400, "message is required")
        to = target[2].removeprefix("+")
        RECORDED.append({"kind": target[1], "to": to, "message": message, "time": time.time()})
        if to.startswith("0000"):
            log(f"failed to send {target[1]} message to {to}: no such account")
        return self._send(200, f"Message sent to {to}")

    def _send(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())
        log(f"{self.command} {self.path} {status} 1ms")

    def log_message(self, *_args: object) -> None:
        """Logged above, as the real one does."""


def end(*_args: object) -> None:
    print("Program terminated gracefully", flush=True)
    os._exit(0)


signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pair()
log("Joined groups:")
log("Name:  The family")
log("Received a message:  hello\nfrom somebody")
print("Starting server on :8080", flush=True)
ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
