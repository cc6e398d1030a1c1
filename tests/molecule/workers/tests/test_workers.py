"""A second host with two workers: both share the queue and the requests of nginx, and no other machine reaches them."""

import json
import re
import time
from typing import Any

import pytest
import testinfra

from tests.molecule.hosts import ask_loki, docker

FIRST, SECOND = testinfra.get_host("docker://first"), testinfra.get_host("docker://second")
NEIGHBOUR = testinfra.get_host("docker://testbed-neighbour")
#: nginx waits 5 s for each worker of a lost host (location /health), and asks the next one.
CURL = "curl -sS --max-time 20 --cacert /state/pebble-root.crt https://workers.example.test/health"


def address(host: str) -> str:
    return docker("inspect", "-f", "{{.NetworkSettings.Networks.testbed.IPAddress}}", host)


def test_second_host_runs_two_workers_and_what_observes_them() -> None:
    services = "docker ps --filter health=healthy --format '{{.Label \"com.docker.compose.service\"}}'"
    colours = [{f"worker-{colour}", f"worker-{colour}-2"} for colour in ("blue", "green")]
    healthy = set(SECOND.check_output(services).split())
    assert healthy & (colours[0] | colours[1]) in colours
    assert healthy - colours[0] - colours[1] == {"node-exporter", "alloy"}


def test_second_host_is_measured_and_its_lines_arrive() -> None:
    def ask(service: str, url: str) -> Any:
        return json.loads(FIRST.check_output(f"docker exec wearon-{service}-1 wget -q -O - '{url}'"))

    wanted: set[tuple[str | None, ...]] = {
        (job, host, None) for job in ("node", "alloy") for host in ("first", "second")
    }
    wanted |= {("worker", "first", None), ("worker", "second", "1"), ("worker", "second", "2")}
    for _ in range(90):
        up = ask("prometheus", "http://127.0.0.1:9090/api/v1/query?query=up==1")["data"]["result"]
        seen = {tuple(one["metric"].get(label) for label in ("job", "host", "replica")) for one in up}
        streams = {(one["service"], one["host"]) for one in ask_loki(FIRST, "series", **{"match[]": '{service=~".+"}'})}
        if wanted <= seen and ("worker", "second") in streams:
            return
        time.sleep(1)
    pytest.fail(f"after 90 seconds: {seen}, {streams}")


def test_all_workers_answer_requests() -> None:
    for _ in range(12):
        assert '"status"' in NEIGHBOUR.check_output(CURL)
    upstreams = re.findall(r'"upstream":"([^"]+)"', FIRST.check_output("docker logs --tail 24 wearon-nginx-1"))
    second = re.escape(address("second"))
    for worker in (r"172\.30\.250\.1[12]:8000", second + r":800[12]", second + r":801[12]"):
        assert any(re.fullmatch(worker, upstream) for upstream in upstreams), (worker, upstreams)


def test_what_listens_on_a_private_address_starts_before_the_address_is_there() -> None:
    """As after a power cut with WireGuard; Docker does not try again. A boot reads the kernel settings."""
    FIRST.check_output("sysctl --pattern '^net' --load /etc/sysctl.d/60-wearon.conf")
    image = FIRST.check_output("docker inspect --format '{{.Config.Image}}' wearon-node-exporter-1")
    assert "version" in FIRST.check_output(f"docker run --rm --publish 10.255.255.254:6399:9100 {image} --version 2>&1")


def test_neighbours_reach_nothing_of_what_the_hosts_share() -> None:
    for host in ("first", "second"):
        scan = NEIGHBOUR.check_output(f"nmap -Pn -n -p 22,80,443,3100,8001,8002,8011,8012,9100,12345 {address(host)}")
        assert not re.search(r"^(3100|80..|9100|12345)/tcp +(open|closed)", scan, re.M), scan


def test_requests_survive_the_loss_of_the_second_host() -> None:
    docker("pause", "second")
    try:
        assert all('"status"' in NEIGHBOUR.check_output(CURL) for _ in range(6))
    finally:
        docker("unpause", "second")
