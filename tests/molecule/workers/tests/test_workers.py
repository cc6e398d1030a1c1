"""A second host with a worker: it shares the queue, nginx sends it requests, and nobody else reaches it."""

import re

import testinfra

from tests.molecule.hosts import docker

FIRST, SECOND = testinfra.get_host("docker://first"), testinfra.get_host("docker://second")
NEIGHBOUR = testinfra.get_host("docker://testbed-neighbour")
CURL = "curl -sS --max-time 10 --cacert /state/pebble-root.crt https://api.example.test/health"


def address(host: str) -> str:
    return docker("inspect", "-f", "{{.NetworkSettings.Networks.testbed.IPAddress}}", host)


def test_second_host_runs_a_worker_and_nothing_else() -> None:
    assert SECOND.check_output("docker ps --filter health=healthy --format '{{.Names}}'") == "wearon-worker-blue-1"


def test_both_workers_answer_requests() -> None:
    for _ in range(8):
        assert '"status"' in NEIGHBOUR.check_output(CURL)
    upstreams = set(re.findall(r'"upstream":"([^"]+)"', FIRST.check_output("docker logs --tail 20 wearon-nginx-1")))
    assert {"172.30.250.11:8000", f"{address('second')}:8001"} <= upstreams


def test_second_worker_uses_the_first_hosts_redis() -> None:
    auth = 'REDISCLI_AUTH=$(cut -d" " -f2 /run/secrets/redis.password.conf)'
    clients = f"docker exec wearon-redis-1 sh -c '{auth} redis-cli client list'"
    assert f"addr={address('second')}:" in FIRST.check_output(clients)


def test_neighbours_reach_neither_redis_nor_the_workers() -> None:
    for host, ports in (("first", "22,80,443,6379,8001,8002"), ("second", "22,80,443,6379,8001,8002")):
        scan = NEIGHBOUR.check_output(f"nmap -Pn -n -p {ports} {address(host)}")
        assert not re.search(r"^(6379|8001|8002)/tcp +(open|closed)", scan, re.M), scan


def test_requests_survive_the_loss_of_the_second_host() -> None:
    docker("pause", "second")
    try:
        assert all('"status"' in NEIGHBOUR.check_output(CURL) for _ in range(6))
    finally:
        docker("unpause", "second")
