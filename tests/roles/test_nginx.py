"""The rendered files in a real nginx, before a worker that says what it got: as clients and proxies meet them."""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from tests.programs import command, on_this_machine
from tests.render import FULL
from tests.roles.conftest import ROOT, Rendered
from tests.sandbox.processes import free_port
from worker.http import requests

NAME = "wearon.localhost.test"
KNOWN = yaml.safe_load((ROOT / "roles/nginx/vars/main.yml").read_text())["__nginx_known_proxies"]
#: Peers of the tests: one that may be a proxy, and one that never is.
PROXY, STRANGER = "127.0.0.1", "127.0.0.2"


class Worker(BaseHTTPRequestHandler):
    """Says what it got; what it does besides stands in the header X-Do."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        wanted = self.headers.get("X-Do", "200")
        if wanted == "hang":
            time.sleep(3)
        status = int(wanted) if wanted.isdigit() else 200
        body = json.dumps({"worker": dict(self.headers), "method": self.command, "path": self.path}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing: nginx has a log."""


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.text))


@dataclass
class Nginx:
    folder: Path
    port: int
    tls_port: int

    def ask(
        self,
        path: str = "/health",
        method: str = "GET",
        headers: dict[str, str] | None = None,
        peer: str = STRANGER,
        body: bytes | Iterator[bytes] | None = None,
        tls: bool = True,
    ) -> Answer:
        connection = self.connect(peer, tls)
        connection.request(method, path, body, {"Host": NAME, **(headers or {})})
        return read(connection)

    def connect(self, peer: str = STRANGER, tls: bool = True) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(NAME, timeout=20)
        sock = socket.create_connection((PROXY, self.tls_port if tls else self.port), 20, (peer, 0))
        connection.sock = CONTEXT.wrap_socket(sock, server_hostname=NAME) if tls else sock
        return connection

    def line(self, request_id: str) -> dict[str, Any]:
        """Line of the log, which is written after the answer."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for line in reversed((self.folder / "log").read_text().split("\n")[:-1]):
                if f'"request_id":"{request_id}"' in line:
                    return dict(json.loads(line))
        return {}


CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE


def read(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read().decode())
    connection.close()
    return answer


@pytest.fixture(scope="module")
def worker() -> Iterator[int]:
    server = ThreadingHTTPServer((PROXY, 0), Worker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def start(
    render: Callable[..., Rendered], worker: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Nginx]]:
    """Start nginx with some trusted proxies, and with changes of the rendered text; once for each."""
    stack, started, running = render("local", **FULL).folder / "nginx", {}, []

    def run(*proxies: str, changes: tuple[tuple[str, str], ...] = ()) -> Nginx:
        if (proxies, changes) not in started:
            nginx = lay_out(tmp_path_factory.mktemp("nginx"), stack, proxies, changes, worker)
            as_user = "user root; " if os.getuid() == 0 else ""
            words = ["-e", "stderr", "-g", f"{as_user}daemon off;", "-c", str(nginx.folder / "live/nginx.conf")]
            with (nginx.folder / "log").open("w") as log:
                running.append(subprocess.Popen([*command("nginx", nginx.folder), *words], stdout=log, stderr=log))
            await_port(nginx, running[-1])
            started[proxies, changes] = nginx
        return started[proxies, changes]

    yield run
    for process in running:
        process.terminate()
    for process in running:
        process.wait(20)


def await_port(nginx: Nginx, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection((PROXY, nginx.tls_port), 1):
            return
    pytest.fail((nginx.folder / "log").read_text())


def lay_out(
    folder: Path, stack: Path, proxies: tuple[str, ...], changes: tuple[tuple[str, str], ...], worker: int
) -> Nginx:
    """The tree of a host, with ports, folders and upstreams of this machine."""
    nginx = Nginx(folder, free_port(PROXY), free_port(PROXY))
    shutil.copytree(stack / "staged", folder / "live")
    for name in ("tls", "upstreams/worker", "maintenance", "acme/.well-known/acme-challenge", "tmp"):
        (folder / name).mkdir(parents=True)
    template = jinja2.Template((ROOT / "roles/nginx/templates/clients.conf.j2").read_text(), trim_blocks=True)
    clients = template.render(nginx_trusted_proxies=list(proxies), __nginx_known_proxies=KNOWN)
    (folder / "live/clients.conf").write_text(clients)
    (folder / "types").write_text("types { text/html html; }")
    (folder / "upstreams/worker/here.conf").write_text(f"server {PROXY}:{worker} max_fails=0;\n")
    (folder / "acme/.well-known/acme-challenge/token").write_text("proof")
    here = [
        (" /tmp/", f" {folder}/tmp/"),
        ("/etc/nginx/mime.types", f"{folder}/types"),
        ("/var/www/acme", f"{folder}/acme"),
        (r"listen \[::\].*;", ""),
        (r"listen 127.0.0.1:8081;", f"listen 127.0.0.1:{free_port(PROXY)};"),
        ("listen 8080", f"listen {nginx.port}"),
        ("listen 8443", f"listen {nginx.tls_port}"),
    ]
    for path in (folder / "live").rglob("*.conf"):
        text = path.read_text()
        for old, new in [*here, *changes]:
            text = re.sub(old, new, text)
        path.write_text(text)
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days 1"
    files = "-keyout tls/privkey.pem -out tls/fullchain.pem"
    on_this_machine("openssl")
    subprocess.run(["sh", "-c", f"{request} {files}"], cwd=folder, check=True, capture_output=True)
    return nginx


# --- whose address counts

#: One of Cloudflare's networks is this machine.
BEHIND_CLOUDFLARE = (("173.245.48.0/20", f"{PROXY}/32"),)


@pytest.mark.parametrize("proxies", [(), ("cloudflare",), ("10.0.0.0/8", "127.0.0.1"), ("cloudflare", "127.0.0.1")])
@pytest.mark.parametrize("header", ["X-Forwarded-For", "CF-Connecting-IP", "X-Real-IP", "Forwarded"])
def test_header_of_a_stranger_changes_nothing(start: Callable[..., Nginx], proxies: tuple[str], header: str) -> None:
    nginx = start(*proxies, changes=BEHIND_CLOUDFLARE)
    seen = nginx.ask(peer=STRANGER, headers={header: "203.0.113.7"}).body["worker"]
    assert seen["X-Real-IP"] == seen["X-Forwarded-For"] == STRANGER


@pytest.mark.parametrize(
    ("proxies", "headers", "client"),
    [
        (("cloudflare",), {"CF-Connecting-IP": "203.0.113.7"}, "203.0.113.7"),
        (
            ("cloudflare",),
            {"CF-Connecting-IP": "2001:db8::7", "X-Forwarded-For": "6.6.6.6, 2001:db8::7"},
            "2001:db8::7",
        ),
        # A script in Cloudflare's network, which writes the list as it likes.
        (
            ("cloudflare",),
            {"CF-Connecting-IP": "2a06:98c0:3600::103", "X-Forwarded-For": "6.6.6.6, 2a06:98c0:3600::103"},
            "2a06:98c0:3600::103",
        ),
        (("cloudflare",), {"X-Forwarded-For": "6.6.6.6"}, PROXY),
        (("cloudflare",), {"CF-Connecting-IP": "nonsense"}, PROXY),
        (("10.0.0.0/8", "127.0.0.1"), {"X-Forwarded-For": "203.0.113.7"}, "203.0.113.7"),
        (("10.0.0.0/8", "127.0.0.1"), {"X-Forwarded-For": "6.6.6.6, 203.0.113.7, 10.1.2.3"}, "203.0.113.7"),
        (("10.0.0.0/8", "127.0.0.1"), {"CF-Connecting-IP": "6.6.6.6"}, PROXY),
        (("cloudflare", "127.0.0.1"), {"X-Forwarded-For": "6.6.6.6, 203.0.113.7, 172.68.1.1"}, "203.0.113.7"),
        ((), {"X-Forwarded-For": "203.0.113.7"}, PROXY),
    ],
)
def test_word_of_a_trusted_proxy_counts(
    start: Callable[..., Nginx], proxies: tuple[str], headers: dict[str, str], client: str
) -> None:
    nginx = start(*proxies, changes=BEHIND_CLOUDFLARE)
    answer = nginx.ask(peer=PROXY, headers=headers)
    seen = answer.body["worker"]
    assert seen["X-Real-IP"] == seen["X-Forwarded-For"] == client
    line = nginx.line(seen["X-Request-Id"])
    assert (line["client"], line["peer"]) == (client, PROXY)


#: Three requests, then one a minute.
FEW = (("rate=5r/s", "rate=1r/m"), ("burst=20", "burst=2"))
ONE_NETWORK = [
    "2001:db8::1",
    "2001:DB8:0:0:1:2:3:4",
    "2001:0db8:0000:0000:ffff:ffff:ffff:ffff",
    "2001:db8::a:0:0:1",
    "[2001:db8::9]:4711",
]


@pytest.mark.parametrize(
    ("addresses", "others"),
    [
        (ONE_NETWORK, ["2001:db8:0:1::1", "2001:db8:1::1", "2002:db8::1"]),
        (
            ["a:b:c:d::", "a:b:c:d:1::", "a:b:c:d::10a:a0a"],
            ["a:b:c:d0a::1", "a:b:c:a::"],
        ),  # 10 is a new line to a regex
        (["::ffff:198.51.100.1", "198.51.100.1", "::ffff:c633:6401"], ["::ffff:198.51.100.2", "198.51.100.10"]),
        (["::1:2", "::2:3", "::4"], ["0:0:0:1::"]),
    ],
)
def test_limit_is_that_of_a_network_however_its_addresses_are_spelled(
    start: Callable[..., Nginx], addresses: list[str], others: list[str]
) -> None:
    nginx = start("127.0.0.1", changes=FEW)

    def status(address: str) -> int:
        return nginx.ask("/estimate-body", "POST", {"X-Forwarded-For": address}, PROXY).status

    assert [status(addresses[turn % len(addresses)]) for turn in range(6)] == [200, 200, 200, 429, 429, 429]
    assert [status(address) for address in [*others, *addresses]] == [200] * len(others) + [429] * len(addresses)


def test_list_of_cloudflare_says_its_date_and_its_source() -> None:
    text = (ROOT / "roles/nginx/vars/main.yml").read_text()
    assert re.search(r"\d{4}-\d\d-\d\d.*https://www.cloudflare.com/ips-v4", text, re.DOTALL)
    assert len(KNOWN["cloudflare"]) == len(set(KNOWN["cloudflare"])) == 22


# --- the authority, and clients that forgot the s


@pytest.mark.parametrize("tls", [True, False])
def test_authority_finds_the_proof_with_and_without_tls(start: Callable[..., Nginx], tls: bool) -> None:
    answer = start().ask("/.well-known/acme-challenge/token", tls=tls)
    assert (answer.status, answer.text) == (200, "proof")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_method_survives_the_way_to_https(start: Callable[..., Nginx], method: str) -> None:
    answer = start().ask("/estimate-body?a=b", method, tls=False)
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{NAME}/estimate-body?a=b")


# --- what nginx answers itself


def in_parts(size: int) -> Iterator[bytes]:
    yield from [b"x" * 1024] * (size // 1024)


@pytest.mark.parametrize(
    ("status", "retry_after", "asked"),
    [
        (404, None, {"path": "/.env?secret=x"}),
        (404, None, {"path": "/.well-known/acme-challenge/none"}),
        (405, None, {"path": "/.well-known/acme-challenge/token", "method": "POST"}),
        (413, None, {"path": "/estimate-body", "method": "POST", "body": b"x" * 20_000}),
        (413, None, {"path": "/estimate-body", "method": "POST", "body": in_parts(40_960)}),
        (400, None, {"headers": {"X-Long": "x" * 9000}}),
        (414, None, {"path": "/" + "x" * 9000}),
        (504, "5", {"headers": {"X-Do": "hang"}}),
    ],
)
def test_errors_of_nginx_are_answers_of_the_api(
    start: Callable[..., Nginx], status: int, retry_after: str | None, asked: dict[str, Any]
) -> None:
    nginx = start(changes=(("proxy_read_timeout 5s", "proxy_read_timeout 1s"),))
    line = is_one_of_the_api(nginx, nginx.ask(**asked), status, retry_after)
    assert status == 414 or line["path"] == asked.get("path", "/health").split("?")[0]


def is_one_of_the_api(nginx: Nginx, answer: Answer, status: int, retry_after: str | None) -> dict[str, Any]:
    assert (answer.status, answer.headers["Retry-After"]) == (status, retry_after)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Strict-Transport-Security"]
    assert list(answer.body) == ["detail", "request_id"]
    assert len(answer.body["detail"]) > 20
    assert answer.body["request_id"] == answer.headers["X-Request-Id"]
    line = nginx.line(answer.body["request_id"])
    assert line["status"] == status
    return line


@pytest.mark.parametrize(
    "words", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]
)
def test_request_that_cannot_be_read_is_an_error_of_the_api(start: Callable[..., Nginx], words: bytes) -> None:
    connection = start().connect()
    connection.sock.sendall(words)
    status, _, text = b"".join(iter(lambda: connection.sock.recv(65536), b"")).partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 400 ")
    assert list(json.loads(text)) == ["detail", "request_id"]


def test_plain_http_on_the_port_of_tls_is_an_error_of_the_api(start: Callable[..., Nginx]) -> None:
    nginx = start()
    answer = Nginx(nginx.folder, nginx.tls_port, nginx.tls_port).ask(tls=False)
    assert (answer.status, list(answer.body)) == (400, ["detail", "request_id"])


def test_limits_and_outages_say_when_to_come_back(start: Callable[..., Nginx]) -> None:
    nginx = start(changes=FEW)
    answers = [nginx.ask("/estimate-body", "POST") for _ in range(4)]
    is_one_of_the_api(nginx, answers[-1], 429, "1")
    nobody = start(changes=(("include ../upstreams/worker/.*", f"server {PROXY}:{free_port(PROXY)};"),))
    is_one_of_the_api(nobody, nobody.ask(), 502, "5")


@pytest.mark.parametrize(("path", "method", "lost"), [("/health", "GET", 8), ("/estimate-body", "POST", 2)])
def test_request_survives_the_loss_of_a_host_with_several_workers(
    start: Callable[..., Nginx], worker: int, path: str, method: str, lost: int
) -> None:
    servers = [*(free_port(PROXY) for _ in range(lost)), worker]
    upstream = " ".join(f"server {PROXY}:{port} max_fails=2 fail_timeout=5s;" for port in servers)
    nginx = start(changes=(("include ../upstreams/worker/.*", upstream),))
    assert nginx.ask(path, method).status == 200


def test_answers_of_the_worker_pass_unchanged(start: Callable[..., Nginx]) -> None:
    for status in (400, 404, 422, 429, 500, 502, 503):
        answer = start().ask(headers={"X-Do": str(status)})
        assert (answer.status, list(answer.body)) == (status, ["worker", "method", "path"])
        assert "Retry-After" not in answer.headers


def test_maintenance_is_an_answer_of_the_api(start: Callable[..., Nginx], render: Callable[..., Rendered]) -> None:
    folder = render("local", **FULL).folder / "nginx/maintenance"
    nginx = start(changes=(("include ../maintenance", f"include {folder}"),))
    is_one_of_the_api(nginx, nginx.ask("/estimate-body", "POST"), 503, "600")


# --- request ids


@pytest.mark.parametrize("given", ["1", "req_5f0c8a52-6f3c", "2026-11-27T10:00:00.123", "x" * 128])
def test_request_id_is_kept(start: Callable[..., Nginx], given: str) -> None:
    answer = start().ask(headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == answer.body["worker"]["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, 'a"b', "a b", "a\\b", "<b>", "x;y", "ä"])
def test_request_id_that_cannot_be_used_is_replaced(start: Callable[..., Nginx], given: str) -> None:
    answer = start().ask("/nowhere", headers={"X-Request-Id": given})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.body["request_id"])


def test_nginx_and_the_worker_take_the_same_request_ids() -> None:
    template = (ROOT / "roles/nginx/templates/clients.conf.j2").read_text()
    nginx = re.search(r'"~\^(\S+)\$" +\$http_x_request_id;', template)
    assert nginx
    assert nginx[1].replace("-]", r"\-]") == requests._REQUEST_ID.pattern


# --- the description for merchants


def test_description_is_public_only_when_wanted() -> None:
    template = jinja2.Template((ROOT / "roles/worker/templates/nginx.conf.j2").read_text())
    template.environment.filters["bool"] = bool
    paths = [
        set(re.findall(r"location = (\S+)", template.render(worker_public_docs=wanted))) for wanted in (False, True)
    ]
    assert paths[1] - paths[0] == {"/docs", "/openapi.json"}


def test_line_of_a_long_request_is_shorter_than_what_the_engine_splits(start: Callable[..., Nginx]) -> None:
    """At 16 KB; what comes in may have 8 KB for each field, and some letters become six in JSON."""
    nginx = start()
    answer = nginx.ask("/" + "%01" * 2600, headers={"X-Request-Id": "req_long_line", "User-Agent": '"' * 7000})
    assert answer.status == 404
    line = nginx.line("req_long_line")
    assert len(json.dumps(line)) < 8192
    assert 1000 <= len(line["path"]) <= 3000
    assert line["user_agent"].startswith('""')
