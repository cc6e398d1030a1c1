"""A second host with a worker: it shares the queue, nginx sends it requests, and nobody else reaches it."""

import json
import re
import time
from typing import Any

import pytest
import testinfra

from tests.molecule.hosts import ask_loki, docker

FIRST, SECOND = testinfra.get_host("docker://first"), testinfra.get_host("docker://second")
NEIGHBOUR = testinfra.get_host("docker://testbed-neighbour")
CURL = "curl -sS --max-time 10 --cacert /state/pebble-root.crt https://workers.example.test/health"


def address(host: str) -> str:
    return docker("inspect", "-f", "{{.NetworkSettings.Networks.testbed.IPAddress}}", host)


def test_second_host_runs_a_worker_and_what_observes_it() -> None:
    services = "docker ps --filter health=healthy --format '{{.Label \"com.docker.compose.service\"}}'"
    colours = {"worker-blue", "worker-green"}
    healthy = set(SECOND.check_output(services).split())
    assert healthy - colours == {"node-exporter", "alloy"}
    assert len(healthy & colours) == 1


def test_second_host_is_measured_and_its_lines_arrive() -> None:
    def ask(service: str, url: str) -> Any:
        return json.loads(FIRST.check_output(f"docker exec wearon-{service}-1 wget -q -O - '{url}'"))

    wanted = {(job, host) for job in ("worker", "node", "alloy") for host in ("first", "second")}
    for _ in range(90):
        up = ask("prometheus", "http://127.0.0.1:9090/api/v1/query?query=up==1")["data"]["result"]
        seen = {(one["metric"]["job"], one["metric"].get("host")) for one in up}
        streams = {(one["service"], one["host"]) for one in ask_loki(FIRST, "series", **{"match[]": '{service=~".+"}'})}
        if wanted <= seen and ("worker", "second") in streams:
            return
        time.sleep(1)
    pytest.fail(f"after 90 seconds: {seen}, {streams}")


def test_both_workers_answer_requests() -> None:
    for _ in range(8):
        assert '"status"' in NEIGHBOUR.check_output(CURL)
    upstreams = re.findall(r'"upstream":"([^"]+)"', FIRST.check_output("docker logs --tail 20 wearon-nginx-1"))
    first, second = r"172\.30\.250\.1[12]:8000", re.escape(address("second")) + r":800[12]"
    assert any(re.fullmatch(first, upstream) for upstream in upstreams)
    assert any(re.fullmatch(second, upstream) for upstream in upstreams)


def test_what_listens_on_a_private_address_starts_before_the_address_is_there() -> None:
    """As after a power cut with WireGuard; Docker does not try again."""
    image = FIRST.check_output("docker inspect --format '{{.Config.Image}}' wearon-redis-1")
    assert "v=" in FIRST.check_output(
        f"docker run --rm --publish 10.255.255.254:6399:6379 {image} redis-server --version"
    )


def test_second_worker_uses_the_first_hosts_redis() -> None:
    auth = 'REDISCLI_AUTH=$(cut -d" " -f2 /run/secrets/redis.password.conf)'
    clients = f"docker exec wearon-redis-1 sh -c '{auth} redis-cli client list'"
    assert f"addr={address('second')}:" in FIRST.check_output(clients)


def test_neighbours_reach_nothing_of_what_the_hosts_share() -> None:
    for host in ("first", "second"):
        scan = NEIGHBOUR.check_output(f"nmap -Pn -n -p 22,80,443,3100,6379,8001,8002,9100,12345 {address(host)}")
        assert not re.search(r"^(3100|6379|8001|8002|9100|12345)/tcp +(open|closed)", scan, re.M), scan


def test_requests_survive_the_loss_of_the_second_host() -> None:
    docker("pause", "second")
    try:
        assert all('"status"' in NEIGHBOUR.check_output(CURL) for _ in range(6))
    finally:
        docker("unpause", "second")
