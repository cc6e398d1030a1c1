"""The programs of the stack with exactly the rendered user, memory, processes, capabilities and file systems."""

import re
from collections.abc import Callable
from time import time_ns
from urllib.parse import urlencode

import pytest
import yaml

from tests.real.stack import PASSWORD, PROJECT, SERVICES, Stack, docker

pytestmark = [pytest.mark.images, pytest.mark.timeout(600)]
Needs = Callable[..., None]
LOGIN = f"admin:{PASSWORD}"


@pytest.mark.parametrize(
    ("service", "file"),
    [("alloy", "alloy/conf/config.alloy"), ("loki", "loki/conf/loki.yml"), ("redis", "redis/conf/redis.conf")],
)
def test_role_accepts_what_it_has_rendered(stack: Stack, needs: Needs, service: str, file: str) -> None:
    needs(service)
    stack.script(f"check-{service}", stack.folder / file)


@pytest.mark.parametrize("service", SERVICES)
def test_program_is_healthy_with_the_rendered_restrictions(stack: Stack, needs: Needs, service: str) -> None:
    needs(service)
    container, rendered = stack.container(service), stack.services[service]
    host, state = container["HostConfig"], container["State"]
    assert (state["Health"]["Status"], state["OOMKilled"], container["RestartCount"]) == ("healthy", False, 0)
    assert container["Config"]["User"] == rendered["user"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == int(rendered["mem_limit"])
    assert host["PidsLimit"] == rendered["pids_limit"]


def test_prometheus_runs_every_rule_and_scrapes_its_neighbours(stack: Stack, needs: Needs) -> None:
    needs("prometheus")
    rendered = yaml.safe_load((stack.folder / "prometheus/staged/rules.d/alerts.yml").read_text())

    def health() -> dict[str, str]:
        groups = stack.get("prometheus", "/api/v1/rules", 9090)["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    names = {rule.get("alert") or rule["record"] for group in rendered["groups"] for rule in group["rules"]}
    found = stack.wait("every rule was evaluated", lambda: "unknown" not in (all_ := health()).values() and all_)
    assert {name for name, what in found.items() if what == "ok"} >= names
    jobs = {"loki", "alloy", "grafana", "redis-exporter", "celery-exporter"} & set(stack.here)
    wanted = {service.removesuffix("-exporter") for service in jobs} | {"prometheus"}

    def up() -> set[str]:
        result = stack.get("prometheus", "/api/v1/query?query=up==1", 9090)["data"]["result"]
        return {one["metric"]["job"] for one in result}

    stack.wait(f"{wanted} are scraped", lambda: wanted <= up())


def test_grafana_has_everything_that_was_rendered(stack: Stack, needs: Needs) -> None:
    needs("grafana", standin=False)

    def ask(path: str) -> list[dict[str, str]]:
        return list(stack.get("grafana", f"/grafana/api/{path}", 3000, LOGIN))

    alerting = stack.folder / "grafana/staged/provisioning/alerting"
    rules = yaml.safe_load((alerting / "rules.yml").read_text())["groups"]
    points = yaml.safe_load((alerting / "contact_points.yml").read_text())["contactPoints"]
    assert {one["uid"] for one in ask("datasources")} == {"prometheus", "loki"}
    assert {one["uid"] for one in ask("v1/provisioning/alert-rules")} == {
        rule["uid"] for group in rules for rule in group["rules"]
    }
    assert {one["name"] for one in ask("v1/provisioning/contact-points")} >= {point["name"] for point in points}
    boards = list((stack.folder / "grafana/staged/dashboards").glob("*.json"))
    assert len(ask("search?type=dash-db&limit=100")) == len(boards)
    off = re.search(r"^disable_plugins = (.*)$", (stack.folder / "grafana/staged/grafana.ini").read_text(), re.M)
    assert off
    assert not {one["id"] for one in ask("plugins?type=datasource")} & set(off[1].split(","))


@pytest.mark.parametrize("source", ["prometheus", "loki"])
def test_grafanas_data_sources_answer(stack: Stack, needs: Needs, source: str) -> None:
    """Each is a program of its own inside the container's limits."""
    needs("grafana", source, standin=False)
    health = f"/grafana/api/datasources/uid/{source}/health"
    stack.wait(f"{source} answers Grafana", lambda: stack.get("grafana", health, 3000, LOGIN)["status"] == "OK")


def test_every_line_arrives_although_loki_is_killed(stack: Stack, needs: Needs) -> None:
    """A container writes before, while and after Loki is away; a stand-in would forget what it has."""
    needs("loki", standin=False)
    needs("alloy")
    mark = f"line-of-{time_ns()}"
    label = "com.docker.compose"
    labels = [f"--label={label}.project={PROJECT}", f"--label={label}.service=writer", f"--label={label}.oneoff=False"]
    image = stack.services["alloy"]["image"]
    line = f'{{\\"level\\": \\"WARN\\", \\"text\\": \\"{mark}-$i.\\"}}'
    script = f'for i in $(seq 300); do echo "{line}"; sleep 0.05; done; sleep 300'
    docker("run", "--detach", "--name", f"{PROJECT}-writer", *labels, "--entrypoint", "bash", image, "-c", script)
    try:
        stack.script("list-logs")

        def arrived() -> set[str]:
            query = urlencode({"since": "1h", "limit": 5000, "query": f'{{service="writer"}} |= "{mark}"'})
            streams = stack.get("loki", f"/loki/api/v1/query_range?{query}", 3100)["data"]["result"]
            lines = [line for one in streams for _, line in one["values"]]
            return set(re.findall(rf"{mark}-(\d+)", " ".join(lines)))

        stack.wait("the first lines", arrived)
        docker("kill", f"{PROJECT}-loki-1")
        docker("start", f"{PROJECT}-loki-1")
        stack.wait("all lines", lambda: len(arrived()) == 300, 180)
    finally:
        docker("rm", "--force", f"{PROJECT}-writer")


def test_lines_have_the_level_that_they_name(stack: Stack, needs: Needs) -> None:
    needs("alloy", "loki", standin=False)
    stack.wait("labels", lambda: stack.get("loki", "/loki/api/v1/label/level/values", 3100)["data"])
    assert set(stack.get("loki", "/loki/api/v1/label/level/values", 3100)["data"]) <= {
        "debug", "info", "warning", "error", "critical",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("service", "port", "metric"),
    [("redis-exporter", 9121, "redis_up 1"), ("celery-exporter", 9808, "# TYPE celery_task_failed_total counter")],
)
def test_exporter_reaches_redis(stack: Stack, needs: Needs, service: str, port: int, metric: str) -> None:
    needs(service, "redis")
    assert metric in stack.get(service, "/metrics", port)
    assert PASSWORD not in docker("logs", f"{PROJECT}-{service}-1")


@pytest.mark.parametrize("service", SERVICES)
def test_program_ends_in_order_and_comes_back(stack: Stack, needs: Needs, service: str) -> None:
    """A stop is no kill after the grace period; after a real kill the program starts with the data it has left."""
    needs(service)
    name = f"{PROJECT}-{service}-1"
    docker("stop", name)
    assert stack.container(service)["State"]["ExitCode"] != 137, "it was killed"
    docker("start", name)
    stack.wait_healthy(service)
    docker("kill", name)
    docker("start", name)
    stack.wait_healthy(service)


def test_password_stands_in_no_log_while_redis_is_away(stack: Stack, needs: Needs) -> None:
    needs("redis", "celery-exporter")
    docker("stop", f"{PROJECT}-redis-1")
    log = f"{PROJECT}-celery-exporter-1"
    stack.wait("the exporter notices", lambda: "celery-exporter exception" in docker("logs", "--since", "2m", log))
    docker("start", f"{PROJECT}-redis-1")
    for service in stack.here:
        assert PASSWORD not in docker("logs", f"{PROJECT}-{service}-1"), service
