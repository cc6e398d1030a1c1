"""The server as a machine on the same network sees it."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from tests.molecule.hosts import docker

Curl = Callable[[str], str]
SITE = "https://api.example.test"


@pytest.fixture(scope="module")
def exposed(server: Host) -> Iterator[None]:
    """A program that listens everywhere, and a container that publishes a port everywhere."""
    listen = (
        "import socket, time\n"
        "s = socket.create_server(('::', 7777), family=socket.AF_INET6, dualstack_ipv6=True); time.sleep(600)"
    )
    docker("exec", "-d", "site", "python3", "-c", listen)
    image = server.check_output("docker inspect -f '{{.Config.Image}}' wearon-nginx-1")
    server.check_output(f"docker run -d --rm --name exposed -p 7778:8080 {image} sleep 600")
    yield
    server.run("docker rm -f exposed; pkill -f 7777")


@pytest.mark.parametrize(("option", "field"), [("", "IPAddress"), ("-6", "GlobalIPv6Address")])
def test_only_three_ports_answer(neighbour: Host, server: Host, exposed: None, option: str, field: str) -> None:
    """All 65535 ports, although a program and a container listen on others."""
    assert server.socket("tcp://:::7777").is_listening
    address = docker("inspect", "-f", f"{{{{.NetworkSettings.Networks.testbed.{field}}}}}", "site")
    scan = neighbour.check_output(f"nmap {option} -Pn -n -p- -T4 --min-rate 20000 --max-retries 1 {address}")
    assert re.findall(r"^(\d+)/tcp +open", scan, re.M) == ["22", "80", "443"], scan
    assert "65532 filtered" in scan


def test_http_leads_to_https(curl: Curl) -> None:
    assert curl("-o /dev/null -w '%{http_code} %{redirect_url}' http://api.example.test/a?b=c") == f"308 {SITE}/a?b=c"


@pytest.mark.parametrize("version", ["-4", "-6"])
def test_api_answers_over_http_2(curl: Curl, version: str) -> None:
    answer = curl(f"{version} -i {SITE}/health")
    assert answer.startswith("HTTP/2 200")
    assert json.loads(answer.splitlines()[-1])["status"] == "ok"
    assert "strict-transport-security: max-age=63072000" in answer


@pytest.mark.parametrize(
    "path", ["/metrics", "/ready", "/docs", "/openapi.json", "/", "/.env", "/health/x", "/estimate-body/"]
)
def test_nothing_else_is_public(curl: Curl, path: str) -> None:
    assert curl(f"-o /dev/null -w '%{{http_code}}' {SITE}{path}") == "404"


def test_unknown_names_get_no_answer(curl: Curl) -> None:
    assert "Empty reply" in curl("-H 'Host: other.example' http://api.example.test/health")
    assert "curl:" in curl("-k --connect-to other.example:443:api.example.test:443 https://other.example/health")


@pytest.mark.parametrize("protocol", ["tls1", "tls1_1"])
def test_old_tls_is_refused(neighbour: Host, protocol: str) -> None:
    client = f"openssl s_client -connect api.example.test:443 -{protocol} -cipher ALL:@SECLEVEL=0"
    assert neighbour.run(f"{client} </dev/null").rc != 0


def test_tls_1_2_takes_only_forward_secret_aead_ciphers(neighbour: Host) -> None:
    listing = neighbour.check_output(
        "nmap -Pn -p 443 --script ssl-enum-ciphers --script-args tls.servername=api.example.test api.example.test"
    )
    ciphers = set(re.findall(r"(TLS_\w+)", listing))
    assert ciphers
    assert {name for name in ciphers if "CBC" in name or "_RSA_WITH" in name.replace("ECDHE_RSA_WITH", "")} == set()
    assert set(re.findall(r"TLSv1\.\d", listing)) == {"TLSv1.2", "TLSv1.3"}
    assert "least strength: A" in listing


def test_request_id_is_passed_on_or_made(curl: Curl, server: Host) -> None:
    assert "x-request-id: req_0123456789" in curl(f"-i -H 'X-Request-Id: req_0123456789' {SITE}/health")
    made = re.search(r"x-request-id: ([0-9a-f]{32})", curl(f"-i -H 'X-Request-Id: bad id\"' {SITE}/health"))
    assert made
    lines = [
        json.loads(line) for line in server.check_output("docker logs wearon-nginx-1").splitlines() if line[:1] == "{"
    ]
    assert {"req_0123456789", made[1]} <= {line["request_id"] for line in lines}


def test_large_bodies_and_many_requests_are_refused(curl: Curl) -> None:
    post = f"-o /dev/null -w '%{{http_code}}\\n' -X POST -H 'Content-Type: application/json' {SITE}/estimate-body"
    assert curl(f"-d \"$(head -c 20000 /dev/zero | tr '\\0' a)\" {post}").strip() == "413"
    codes = curl(
        "--parallel --parallel-max 40 "
        + " ".join(f"-o /dev/null -w '%{{http_code}}\\n' {SITE}/health" for _ in range(40))
    )
    assert "429" in codes
    assert "200" in codes
