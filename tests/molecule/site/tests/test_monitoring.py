"""Metrics and logs of the server, and the fate of wrong rules, files and passwords."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest
from testinfra.host import Host

from tests.molecule.hosts import SERVICES, Played, ask_loki

Play = Callable[..., Played]
Curl = Callable[[str], str]
SITE = "https://api.example.test"


def get(server: Host, service: str, url: str) -> str:
    """The answer of a service inside its own container."""
    return str(server.check_output(f"docker exec wearon-{service}-1 wget -q -O - '{url}'"))


def query(server: Host, expression: str) -> list[tuple[dict[str, str], float]]:
    answer = get(server, "prometheus", f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}")
    return [(one["metric"], float(one["value"][1])) for one in json.loads(answer)["data"]["result"]]


def wait(what: str, look: Callable[[], Any], limit: float = 90) -> Any:
    """The first true answer; timers and scrapes come every 15 seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if answer := look():
            return answer
        time.sleep(1)
    pytest.fail(f"not within {limit} seconds: {what}")


# --- metrics


def test_every_target_is_scraped(server: Host) -> None:
    targets = {
        ("worker", "site", "blue"), ("worker", "site", "green"), ("node", "site", ""), ("alloy", "site", ""),
        ("celery", "", ""), ("redis", "", ""), ("prometheus", "", ""), ("loki", "", ""), ("grafana", "", ""),
    }  # fmt: skip

    def look() -> bool:
        up = {(m["job"], m.get("host", ""), m.get("colour", "")): value for m, value in query(server, "up")}
        return set(up) == targets and {target for target, value in up.items() if not value} == {
            ("worker", "site", "green")  # it does not exist while blue serves
        }

    wait("all targets but the idle colour are up", look)


def test_host_metrics_are_true(server: Host) -> None:
    def look() -> bool:
        return {m["service"] for m, value in query(server, "wearon_container_healthy") if value} == SERVICES

    wait("all services are healthy", look)
    (redis,) = json.loads(server.check_output("docker inspect wearon-redis-1"))
    started = datetime.fromisoformat(redis["State"]["StartedAt"]).timestamp()
    labels = '{job="node",host="site",service="redis"}'
    assert query(server, f"wearon_container_start_time_seconds{labels}")[0][1] == pytest.approx(started, abs=0.01)
    assert query(server, f"wearon_container_memory_limit_bytes{labels}")[0][1] == 256 << 20
    assert 1 << 20 < query(server, f"wearon_container_memory_bytes{labels}")[0][1] < 256 << 20
    assert query(server, f"wearon_container_cpu_seconds_total{labels}")[0][1] > 0
    served = server.check_output(
        "openssl s_client -connect 127.0.0.1:443 -servername api.example.test </dev/null 2>/dev/null"
        " | openssl x509 -noout -enddate | cut -d= -f2"
    )
    expires = int(server.check_output(f"date -d '{served}' +%s"))
    wait(
        "the expiry of the certificate",
        lambda: query(server, f"wearon_certificate_expiry_timestamp_seconds == {expires}"),
    )
    assert query(server, "wearon_backup_timestamp_seconds")
    assert query(server, "redis_up == 1 and on() redis_memory_max_bytes > 0")
    assert query(server, "time() - wearon_host_metrics_timestamp_seconds < 90")
    # Of a test host only its volumes lie on a disk: its root is an overlay.
    assert query(server, "node_filesystem_avail_bytes > 0 and on() node_memory_MemTotal_bytes > 0")


def test_restart_and_want_of_memory_are_counted(server: Host) -> None:
    kills = 'wearon_container_oom_kills_total{service="celery-exporter"}'
    before = query(server, kills)[0][1]
    server.check_output("docker kill wearon-redis-exporter-1")
    assert server.run("docker exec wearon-celery-exporter-1 python -c 'bytes(range(256)) * (1 << 22)'").rc == 137
    wait(
        "the restart",
        lambda: query(server, 'changes(wearon_container_start_time_seconds{service="redis-exporter"}[10m]) > 0'),
    )
    wait("the kill", lambda: query(server, f"{kills} > {before}"))


@pytest.fixture
def hog(server: Host) -> Iterator[str]:
    """A service whose main process is killed by the kernel again and again."""
    image = server.check_output("docker inspect -f '{{.Config.Image}}' wearon-celery-exporter-1")
    labels = " ".join(
        f"--label com.docker.compose.{name}" for name in ("project=wearon", "service=hog", "oneoff=False")
    )
    options = f"{labels} --memory 24m --memory-swap 24m --restart on-failure --entrypoint python"
    server.check_output(f"docker run -d --name hog {options} {image} -c 'bytes(range(256)) * (1 << 22)'")
    yield "hog"
    server.check_output("docker rm -f hog")


def test_kill_of_a_main_process_is_counted(server: Host, hog: str) -> None:
    """It takes the kernel's own count along."""
    wait("the kill", lambda: query(server, f'wearon_container_oom_kills_total{{service="{hog}"}} > 0'))


def test_broken_rules_are_refused_and_good_ones_need_no_restart(server: Host) -> None:
    rules = "/opt/wearon/prometheus/staged/rules.d/test.yml"
    pid = "docker inspect -f '{{.State.Pid}}' wearon-prometheus-1"
    before = server.check_output(pid)

    def activate(expression: str) -> int:
        group = json.dumps({"groups": [{"name": "test", "rules": [{"alert": "Test", "expr": expression}]}]})
        server.check_output(f"cat > {rules} <<'RULES'\n{group}\nRULES")
        return int(server.run("/opt/wearon/bin/activate-prometheus").rc)

    try:
        assert activate("sum(") != 0
        assert not server.file("/opt/wearon/prometheus/live/rules.d/test.yml").exists
        assert activate('up{colour="green"} == 0') == 0
        wait("the alert", lambda: query(server, 'ALERTS{alertname="Test",alertstate="firing"}'))
        assert server.check_output(pid) == before
    finally:
        server.check_output(f"rm -f {rules} && /opt/wearon/bin/activate-prometheus")


# --- logs


def test_lines_of_every_service_arrive(server: Host) -> None:
    """Alloy reads the log files although it is not root, and nothing else of their folder."""

    def look() -> bool:
        streams = ask_loki(server, "series", **{"match[]": '{service=~".+"}'})
        assert {one["host"] for one in streams} <= {"site"}
        return {one["service"] for one in streams} >= {"worker", "nginx", "redis", "grafana", "whatsapp-bridge"}

    wait("lines of every service", look)
    (container,) = json.loads(server.check_output("docker inspect wearon-alloy-1"))
    assert container["Config"]["User"] == "10010:0"
    logs = "/var/lib/docker/containers"
    for refused in (f"ls {logs}", f"cat {logs}/{container['Id']}/config.v2.json", f"touch {logs}/{container['Id']}/x"):
        assert server.run(f"docker exec wearon-alloy-1 {refused}").rc != 0, refused


def test_nothing_has_the_engines_socket(server: Host) -> None:
    mounts = server.check_output("docker inspect -f '{{json .Mounts}}' $(docker ps -q)")
    assert "docker.sock" not in mounts
    assert "/run/docker" not in mounts


# --- Grafana


def test_grafana_is_reached_through_nginx(curl: Curl, server: Host) -> None:
    answer = curl(f"-i {SITE}/grafana/login")
    assert answer.startswith("HTTP/2 200")
    assert "Grafana" in answer
    assert re.findall(r"x-frame-options: (\S+)", answer, re.I) == ["SAMEORIGIN"]
    assert '"database"' in curl(f"{SITE}/grafana/api/health")
    assert curl(f"-o /dev/null -w '%{{http_code}} %{{redirect_url}}' {SITE}/grafana") == f"301 {SITE}/grafana/"
    live = "-H 'Connection: Upgrade' -H 'Upgrade: websocket'"
    code = curl(f"--http1.1 --max-time 3 -o /dev/null -w '%{{http_code}}' {live} {SITE}/grafana/api/live/ws")
    assert code.startswith("101")
    recorded = json.loads(get(server, "grafana", "http://127.0.0.1:3000/__recorded"))
    asked = [one for one in recorded["requests"] if one["path"] == "/grafana/login"][-1]
    assert asked["headers"]["Host"] == "api.example.test"
    assert asked["headers"]["X-Forwarded-Proto"] == "https"
    assert {one["uid"] for one in recorded["provisioned"]["datasources"]} == {"prometheus", "loki"}


@pytest.mark.parametrize("path", ["/grafana/metrics", "/grafana/metrics/x", "/prometheus/", "/loki/api/v1/push"])
def test_metrics_and_stores_are_not_public(curl: Curl, path: str) -> None:
    assert curl(f"-o /dev/null -w '%{{http_code}}' {SITE}{path}") == "404"


def test_login_attempts_are_limited(curl: Curl) -> None:
    codes = curl(" ".join(f"-o /dev/null -w '%{{http_code}}\\n' -d x {SITE}/grafana/login" for _ in range(20)))
    assert "429" in codes


def test_broken_file_never_gets_to_grafana(server: Host) -> None:
    broken = "/opt/wearon/grafana/staged/provisioning/alerting/broken.yml"
    started = server.check_output("docker inspect -f '{{.State.StartedAt}}' wearon-grafana-1")
    server.check_output(f"echo 'groups: [{{name: x}}]' > {broken}")
    try:
        run = server.run("/opt/wearon/bin/activate-grafana")
        assert run.rc != 0
        assert "broken.yml" in run.stderr
        assert not server.file(broken.replace("staged", "live")).exists
        assert server.check_output("docker inspect -f '{{.State.StartedAt}}' wearon-grafana-1") == started
    finally:
        server.check_output(f"rm {broken}")


def test_changed_password_counts_from_the_next_run_on(play: Play, curl: Curl) -> None:
    def login(password: str) -> str:
        return curl(f"-o /dev/null -w '%{{http_code}}' -u admin:{password} {SITE}/grafana/api/user")

    first, second = "testbed-grafana-password", "another-grafana-password"
    assert login(first) == "200"
    run = play("site", "--tags", "grafana", "-e", f"grafana_admin_password={second}")
    assert run.code == 0, run.text
    assert (login(first), login(second)) == ("401", "200")
    run = play("site", "--tags", "grafana")
    assert run.code == 0, run.text
    assert (login(first), login(second)) == ("200", "401")


# --- the bridge


def test_pairing_that_nobody_makes_ends_clearly(play: Play, server: Host) -> None:
    assert server.check_output("docker inspect -f '{{.State.Health.Status}}' wearon-whatsapp-bridge-1") == "healthy"
    wait("the bridge is not up", lambda: query(server, "wearon_whatsapp_bridge_up == 0"))
    run = play("pair_whatsapp", "-e", "codes=1")
    assert run.code != 0
    assert "▀▄" in run.text
    assert "Not paired" in run.text


def test_pairing_ends_when_the_phone_has_scanned(play: Play, server: Host) -> None:
    """The phone scans while the playbook shows a code; afterwards messages are taken, and only with the secret."""
    data = "/opt/wearon/whatsapp_bridge/data"
    server.check_output(f"(sleep 8; install -o 10012 -m 600 /dev/null {data}/scanned) >/dev/null 2>&1 &")
    run = play("pair_whatsapp")
    assert run.code == 0, run.text
    assert "Paired" in run.text
    run = play("pair_whatsapp")
    assert (run.code, run.changed) == (0, 0), run.text
    wait("the bridge is up", lambda: query(server, "wearon_whatsapp_bridge_up == 1"))

    def send(secret: str, body: str) -> str:
        url = "http://whatsapp-bridge:8080/whatsapp/send/grafana-alert/user/491700000000"
        ask = f"wget -q -S -O /dev/null --header 'Authorization: Bearer {secret}' --post-data '{body}' {url} 2>&1"
        answer = str(server.run("docker exec wearon-grafana-1 sh -c %s", ask).stdout)
        return str(re.findall(r"HTTP/1\.\d (\d+)", answer)[0])

    secret = "testbed-whatsapp-bridge-secret"
    assert send(secret, json.dumps({"message": "hello"})) == "200"
    assert send(secret, json.dumps({"message": ""})) == "400"
    assert send("", json.dumps({"message": "hello"})) == "401"
    delivered = 'wearon_whatsapp_messages_total{outcome="delivered"} > 0'
    wait("the receipt is counted", lambda: query(server, delivered))
    folder = server.file(data)
    assert (folder.uid, folder.mode) == (10012, 0o700)


def test_bridge_ends_in_order(server: Host) -> None:
    server.check_output("docker restart wearon-whatsapp-bridge-1")
    health = "docker inspect -f '{{.State.Health.Status}}' wearon-whatsapp-bridge-1"
    wait("the bridge is healthy", lambda: server.check_output(health) == "healthy")
    assert "bridge_stopped" in server.check_output("docker logs --tail 30 wearon-whatsapp-bridge-1 2>&1")
