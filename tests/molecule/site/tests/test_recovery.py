"""Everything comes back by itself: a killed container, a restarted engine, a rebooted machine."""

import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

from tests.molecule.hosts import docker

Curl = Callable[[str], str]


def recovered(server: Host, curl: Curl, limit: float) -> float:
    """Seconds until all containers are healthy and the API answers; fails after `limit`."""
    start = time.monotonic()
    all_ = "docker ps -aq --filter label=com.docker.compose.project=wearon"
    while time.monotonic() - start < limit:
        healthy, containers = server.run(f"{all_} --filter health=healthy").stdout, server.run(all_).stdout
        answer = curl("https://api.example.test/health").replace(" ", "")
        if containers and healthy == containers and '"status":"ok"' in answer:
            return time.monotonic() - start
        time.sleep(0.5)
    pytest.fail(f"not healthy after {limit} seconds: " + server.run("docker ps -a").stdout)


@pytest.mark.parametrize("service", ["redis", "worker-blue", "nginx", "prometheus", "grafana"])
def test_killed_container_is_back_in_30_seconds(server: Host, curl: Curl, service: str) -> None:
    server.check_output(f"docker kill wearon-{service}-1")
    recovered(server, curl, 30)


def test_stopped_container_stays_stopped(server: Host, curl: Curl) -> None:
    """An operator's stop is not overruled."""
    server.check_output("docker stop wearon-nginx-1")
    time.sleep(6)
    assert server.check_output("docker inspect -f '{{.State.Status}}' wearon-nginx-1") == "exited"
    server.check_output("docker start wearon-nginx-1")
    recovered(server, curl, 30)


def test_engine_restart_interrupts_nothing(server: Host, curl: Curl) -> None:
    before = server.check_output(
        "docker inspect -f '{{.State.Pid}}' wearon-nginx-1 wearon-redis-1 wearon-worker-blue-1"
    )
    server.check_output("systemctl restart docker")
    # The new engine knows no container's health before its first look: up to a minute for containers that only watch.
    recovered(server, curl, 90)
    assert (
        server.check_output("docker inspect -f '{{.State.Pid}}' wearon-nginx-1 wearon-redis-1 wearon-worker-blue-1")
        == before
    )
    assert server.service("wearon-revive").is_running
    server.check_output("docker kill wearon-nginx-1")
    recovered(server, curl, 30)


def test_machine_comes_back_from_a_reboot(server: Host, curl: Curl) -> None:
    docker("restart", "--time", "10", "site")
    recovered(server, curl, 120)
    assert "from_outside" in server.check_output("nft list table inet wearon")
