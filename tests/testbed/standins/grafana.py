#!/usr/bin/env python3
"""Stands in for Grafana: reads the same files, refuses what the real one refuses to start with, keeps its accounts in
/var/lib/grafana/grafana.db, and records requests at GET /__recorded. `grafana cli ... reset-admin-password` works."""

import base64
import configparser
import hashlib
import json
import os
import re
import signal
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

RECORDED: list[dict[str, Any]] = []
REQUIRED: dict[str, tuple[str, ...]] = {
    "datasources": ("name", "uid", "type", "url"),
    "groups": ("name", "folder", "interval", "rules"),
    "contactPoints": ("name", "receivers"),
    "policies": ("receiver",),
    "providers": ("name", "type", "options"),
}


def expand(value: str) -> str:
    """`$__file{path}` is the file's content."""
    return re.sub(r"\$__file\{([^}]+)\}", lambda match: Path(match[1]).read_text().strip(), value)


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(os.environ["GF_PATHS_CONFIG"])
    return parser


def digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def database() -> sqlite3.Connection:
    connection = sqlite3.connect("/var/lib/grafana/grafana.db", timeout=10)
    connection.execute("create table if not exists user (login text primary key, password text)")
    return connection


def provisioned() -> dict[str, list[Any]]:
    """Every entry of every file; a broken one ends the start, as it does with the real one."""
    found: dict[str, list[Any]] = {}
    for path in sorted(Path(os.environ["GF_PATHS_PROVISIONING"]).rglob("*.y*ml")):
        for kind, entries in (yaml.safe_load(path.read_text()) or {}).items():
            for entry in entries if isinstance(entries, list) else []:
                missing = [name for name in REQUIRED.get(kind, ()) if name not in entry]
                if missing:
                    raise ValueError(f"{path.name}: {kind}: {', '.join(missing)} missing")
                found.setdefault(kind, []).append(entry)
    return found


def log(level: str, msg: str) -> None:
    print(json.dumps({"level": level, "msg": msg}), flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _account(self) -> str:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        login, _, password = base64.b64decode(value).decode().partition(":") if scheme == "Basic" else ("", "", "")
        with database() as accounts:
            found = accounts.execute(
                "select 1 from user where login = ? and password = ?", (login, digest(password))
            ).fetchone()
        return login if found else ""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path = self.path.split("?")[0]
        RECORDED.append({"method": self.command, "path": path, "headers": dict(self.headers), "body": body})
        path = path.removeprefix("/grafana")
        if path == "/api/health":
            self._send(200, json.dumps({"database": "ok"}))
        elif path == "/metrics":
            self._send(200, "# TYPE grafana_build_info gauge\ngrafana_build_info 1\n", "text/plain; version=0.0.4")
        elif path == "/__recorded":
            self._send(200, json.dumps({"requests": RECORDED, "provisioned": PROVISIONED}))
        elif path == "/login":
            self._send(200, "<title>Grafana</title>", "text/html")
        elif path.startswith("/api/live/") and self.headers.get("Upgrade") == "websocket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.close_connection = True
        elif path == "/api/user":
            account = self._account()
            self._send(200 if account else 401, json.dumps({"login": account}))
        else:
            self._send(404, "{}")

    def _send(self, status: int, text: str, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.send_header("X-Frame-Options", "deny")
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_HEAD = _answer

    def log_message(self, *_args: object) -> None:
        """Requests are recorded, not logged."""


if "reset-admin-password" in sys.argv:
    with database() as accounts:
        accounts.execute("update user set password = ?", (digest(sys.stdin.read().strip()),))
    sys.exit()
try:
    SETTINGS, PROVISIONED = settings(), provisioned()
    first = [expand(SETTINGS["security"][name]) for name in ("admin_user", "admin_password")]
    assert expand(SETTINGS["security"]["secret_key"])
    assert SETTINGS["server"].getboolean("serve_from_sub_path")
    assert not SETTINGS["users"].getboolean("allow_sign_up")
except Exception as error:
    log("error", f"Failed to start grafana: {type(error).__name__}: {error}")
    sys.exit(1)
with database() as accounts:
    if not accounts.execute("select 1 from user").fetchone():
        accounts.execute("insert into user values (?, ?)", (first[0], digest(first[1])))
log("info", "HTTP Server Listen")
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # the first process of a container ignores it otherwise
ThreadingHTTPServer(("0.0.0.0", 3000), Handler).serve_forever()
