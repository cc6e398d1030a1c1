"""The containers of the server and their rights."""

import json
import re
from typing import Any

import pytest
from testinfra.host import Host

from tests.molecule.hosts import SECRETS, SERVICES


@pytest.fixture(scope="module")
def containers(server: Host) -> list[dict[str, Any]]:
    ids = "$(docker ps -q --filter label=com.docker.compose.project=wearon)"
    return list(json.loads(server.check_output(f"docker inspect {ids}")))


def test_every_container_is_healthy_and_confined(containers: list[dict[str, Any]]) -> None:
    assert {one["Name"] for one in containers} == {f"/wearon-{service}-1" for service in SERVICES}
    for one in containers:
        host = one["HostConfig"]
        assert one["State"]["Health"]["Status"] == "healthy", one["Name"]
        assert one["Config"]["User"].split(":")[0] not in {"", "0", "root"}
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert not host["Privileged"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert host["LogConfig"]["Config"]["max-size"] == "10m"


def test_images_are_named_by_digest(containers: list[dict[str, Any]]) -> None:
    images = {one["Name"]: one["Config"]["Image"] for one in containers}
    assert {name: image for name, image in images.items() if "@sha256:" not in image} == {}


def test_processes_hold_no_capability(server: Host, containers: list[dict[str, Any]]) -> None:
    for one in containers:
        status = server.file(f"/proc/{one['State']['Pid']}/status").content_string
        assert re.search(r"CapEff:\s0+$", status, re.M), one["Name"]
        assert re.search(r"NoNewPrivs:\s1$", status, re.M), one["Name"]


def test_only_nginx_publishes_ports(containers: list[dict[str, Any]]) -> None:
    published = {
        one["Name"]: one["HostConfig"]["PortBindings"] for one in containers if one["HostConfig"]["PortBindings"]
    }
    assert list(published) == ["/wearon-nginx-1"]


def test_nginx_does_not_see_redis(containers: list[dict[str, Any]]) -> None:
    networks = {one["Name"]: set(one["NetworkSettings"]["Networks"]) for one in containers}
    assert networks["/wearon-nginx-1"] == {"wearon_edge"}
    beside = {name for name, attached in networks.items() if "wearon_edge" in attached}
    assert beside == {"/wearon-nginx-1", "/wearon-worker-blue-1", "/wearon-grafana-1"}


def test_secrets_show_in_no_inspection(containers: list[dict[str, Any]]) -> None:
    for secret in SECRETS:
        assert secret not in json.dumps(containers)


def test_secrets_are_closed_to_other_accounts(server: Host) -> None:
    folder = server.file("/opt/wearon/secrets")
    assert (folder.user, folder.mode) == ("root", 0o700)
    assert set(server.check_output("find /opt/wearon/secrets -type f -printf '%m\\n'").split()) == {"400"}
    secrets = "site-site|sk-sandbox|testbed-grafana-|testbed-whatsapp-"
    found = server.run(f"grep -rlE '{secrets}' /opt/wearon /etc/wearon --exclude-dir secrets")
    assert (found.rc, found.stdout) == (1, "")


def test_containers_see_only_their_own_secrets(server: Host) -> None:
    assert server.check_output("docker exec wearon-redis-1 ls /run/secrets") == "redis.password.conf"
    assert set(server.check_output("docker exec wearon-worker-blue-1 ls /run/secrets").split()) == {
        "redis_url", "supabase_service_role_key", "openai_api_key",
    }  # fmt: skip
    assert server.run("docker exec wearon-nginx-1 ls /run/secrets").rc != 0
    assert server.run("docker exec wearon-prometheus-1 ls /run/secrets").rc != 0


def test_worker_image_holds_no_compiler_and_no_tests(server: Host) -> None:
    for tool in ("gcc", "cc", "make"):
        assert server.run(f"docker exec wearon-worker-blue-1 sh -c 'command -v {tool}'").rc != 0
    assert server.run("docker exec wearon-worker-blue-1 ls /opt/wearon/tests").rc != 0
