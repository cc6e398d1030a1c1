#!/usr/bin/env python3
"""Stands in for Loki: takes pushed lines and gives them back by two paths of its API; -health and -verify-config too.

Of a query it knows only the text behind `|=`."""

import json
import signal
import sys
import urllib.request
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

STREAMS: deque[dict[str, Any]] = deque(maxlen=20000)
KNOWN = {"auth_enabled", "server", "common", "schema_config", "compactor", "limits_config", "ingester", "querier"}
KNOWN |= {"query_range", "analytics"}


def verify(path: str) -> None:
    """The rules that are easily broken; the real program knows all of them."""
    with open(path) as file:
        config = yaml.safe_load(file)
    unknown = set(config) - KNOWN
    if unknown:
        sys.exit(f"failed parsing config: field {', '.join(sorted(unknown))} not found")
    if config["compactor"]["retention_enabled"] and "delete_request_store" not in config["compactor"]:
        sys.exit(
            "invalid compactor config: compactor.delete-request-store should be configured when retention is enabled"
        )
    if not str(config["limits_config"]["retention_period"]).endswith("h"):
        sys.exit("retention period must be given in hours")


def holding(path: str) -> list[dict[str, Any]]:
    """Return the lines that hold the text of a query."""
    text = parse_qs(urlsplit(path).query)["query"][0].partition('|= "')[2].rstrip('"')
    found = [{**one, "values": [value for value in one["values"] if text in value[1]]} for one in STREAMS]
    return [one for one in found if one["values"]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, text = 200, "ready"
        if self.path == "/loki/api/v1/push" and self.headers["Content-Type"] != "application/json":
            status, text = 400, "snappy: corrupt input"
        elif self.path == "/loki/api/v1/push":
            status, text = 204, ""
            STREAMS.extend(json.loads(body)["streams"])
        elif self.path.startswith("/loki/api/v1/series?"):
            text = json.dumps({"data": list(map(dict, {tuple(one["stream"].items()) for one in STREAMS}))})
        elif self.path.startswith("/loki/api/v1/query_range?"):
            text = json.dumps({"data": {"result": holding(self.path)}})
        elif self.path == "/metrics":
            name = "loki_distributor_lines_received_total"
            text = f"# TYPE {name} counter\n{name} {len(STREAMS)}\n"
        elif self.path != "/ready":
            status, text = 404, ""
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = _answer

    def log_message(self, *_args: object) -> None:
        """Silent."""


if "-health" in sys.argv:
    urllib.request.urlopen("http://127.0.0.1:3100/ready", timeout=5)
    sys.exit()
verify(next(argument for argument in sys.argv if argument.startswith("-config.file=")).partition("=")[2])
if "-verify-config" not in sys.argv:
    with open("/loki/written", "w") as probe:
        probe.write("the data folder is the program's")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # the first process of a container ignores it otherwise
    ThreadingHTTPServer(("0.0.0.0", 3100), Handler).serve_forever()
