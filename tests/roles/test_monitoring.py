"""Configuration of the services that measure and log, checked by the programs that read it and by its shape."""

import base64
import configparser
import json
import os
import re
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.connection import SSLConnection

from bridge import metrics
from bridge.delivery import Deliveries
from tests.programs import command
from tests.render import FULL, SPARSE
from tests.roles.conftest import ROOT, Rendered, program

DOCUMENT = (ROOT / "docs/host-metrics.md").read_text()


def test_prometheus_accepts_its_configuration(rendered: Rendered) -> None:
    path = str(rendered.folder / "prometheus/staged/prometheus.yml")
    is_accepted([*command("promtool", rendered.folder), "check", "config", path])


def is_accepted(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_loki_really_deletes(rendered: Rendered) -> None:
    loki = yaml.safe_load((rendered.folder / "loki/conf/loki.yml").read_text())
    assert loki["limits_config"]["retention_period"] == "168h"
    assert loki["compactor"]["retention_enabled"] is True
    assert loki["compactor"]["working_directory"].startswith("/loki/")
    assert loki["schema_config"]["configs"][0]["index"]["period"] == "24h"
    assert loki["analytics"]["reporting_enabled"] is False


def test_targets_are_those_that_are_documented(rendered: Rendered) -> None:
    """Job names, and the labels that alerts and dashboards use."""
    groups = [
        group
        for path in (rendered.folder / "prometheus/targets.d").glob("*.yml")
        for group in yaml.safe_load(path.read_text())
    ]
    jobs = {group["labels"]["job"] for group in groups}
    table = DOCUMENT[DOCUMENT.index("| `job`") : DOCUMENT.index("Scrape interval")]
    documented = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:-1])))
    assert jobs == documented - {"job", "host"}
    assert {group["labels"].get("colour") for group in groups if group["labels"]["job"] == "worker"} == {
        "blue",
        "green",
    }
    for group in groups:
        assert ("host" in group["labels"]) == (group["labels"]["job"] in {"worker", "node", "alloy"})


def test_managed_redis_is_asked_with_its_user_over_tls(render: Callable[..., Rendered]) -> None:
    stack = render("local", **SPARSE)
    targets = yaml.safe_load((stack.folder / "prometheus/targets.d/redis.yml").read_text())
    assert targets == [{"targets": ["redis-exporter:9121"], "labels": {"job": "redis"}}]
    asked = stack.services()["redis-exporter"]["environment"]
    assert (asked["REDIS_ADDR"], asked["REDIS_USER"]) == ("rediss://managed.example:6380", "default")
    assert asked["REDIS_EXPORTER_CONFIG_COMMAND"] == "-"
    assert "secret" not in json.dumps(stack.services()["redis-exporter"]).replace("secrets", "")
    option = stack.services()["celery-exporter"]["environment"]["CE_BROKER_SSL_OPTION"]
    name, _, value = option.partition("=")
    assert SSLConnection(**{name: value}).cert_reqs == ssl.CERT_REQUIRED  # the exporter hands the text to redis-py
    assert asked["REDIS_EXPORTER_TLS_CA_CERT_FILE"] == "/run/secrets/redis_ca"
    for service in ("redis-exporter", "celery-exporter", "worker-blue"):
        assert "redis_ca" in {secret["target"] for secret in stack.services()[service]["secrets"]}


def test_celery_exporter_keeps_the_password_to_itself_and_ends_in_order(rendered: Rendered) -> None:
    service = rendered.services()["celery-exporter"]
    assert service["stop_signal"] == "SIGINT"
    assert service["image"].startswith("ghcr.io/danihodovic/celery-exporter:")
    assert service["environment"]["LOGURU_DIAGNOSE"] == service["environment"]["LOGURU_BACKTRACE"] == "NO"


def test_bridge_can_be_left_out(render: Callable[..., Rendered]) -> None:
    assert "whatsapp-bridge" not in render("local", **SPARSE).services()


def test_grafana_is_closed(rendered: Rendered) -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(rendered.folder / "grafana/staged/grafana.ini")
    assert re.fullmatch(r"https://[^/]+/grafana/", settings["server"]["root_url"])
    assert settings["server"]["serve_from_sub_path"] == "true"
    assert settings["auth.anonymous"]["enabled"] == "false"
    assert settings["users"]["allow_sign_up"] == "false"
    assert settings["security"]["cookie_secure"] == "true"
    assert settings["analytics"]["reporting_enabled"] == settings["analytics"]["check_for_updates"] == "false"
    for name in ("admin_password", "secret_key"):
        assert settings["security"][name] == f"$__file{{/run/secrets/{name}}}"
    sources = yaml.safe_load((rendered.folder / "grafana/staged/provisioning/datasources/datasources.yml").read_text())
    assert {source["uid"] for source in sources["datasources"]} == {"prometheus", "loki"}


def test_password_of_grafana_is_on_no_command_line(rendered: Rendered, tmp_path: Path) -> None:
    """The script runs with an engine and a curl that record their arguments."""
    login = base64.b64encode(b'admin:cor"rect\\horse').decode()
    secret = rendered.folder / "secrets/grafana.admin_password"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text('cor"rect\\horse')
    programs = {"docker": "echo grafana", "curl": f"cat >{tmp_path}/input", "wget": "exit 0"}
    for name, body in programs.items():
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/lines\n{body}\n')
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", str(rendered.folder / "bin/set-grafana-password")], check=True, env=environment)
    assert (tmp_path / "input").read_text() == f'header = "Authorization: Basic {login}"\n'
    lines = (tmp_path / "lines").read_text()
    assert "curl --config - " in lines
    assert "Authorization" not in lines
    assert login not in lines


# --- what the host itself knows


@pytest.fixture(scope="module")
def host_metrics() -> Any:
    return program("prometheus", "host_metrics")


def test_host_metrics_are_those_that_are_documented(host_metrics: Any, rendered: Rendered, tmp_path: Path) -> None:
    """Those of the program itself, and what the probes of the roles print; one hands on the bridge's own page."""
    rows = [row for row in DOCUMENT.splitlines() if row.startswith("| `wearon_")]
    documented = {
        name: row.split("|")[2].strip() for row in rows for name in re.findall(r"wearon_\w+", row.split("|")[1])
    }
    probes = [path.read_text() for path in (rendered.folder / "prometheus/probes.d").iterdir()]
    deliveries = Deliveries(tmp_path)
    deliveries.sent("a")
    deliveries.delivered(["a"])
    printed = dict(re.findall(r"# TYPE (\w+) (\w+)", "".join([*probes, metrics.page("linked", deliveries)])))
    assert documented == {**host_metrics.TYPES, **printed}


def test_times_of_the_engine_are_read(host_metrics: Any) -> None:
    assert host_metrics.timestamp("2026-11-25T10:10:16.947303123Z") == pytest.approx(1795601416.947303)
    assert host_metrics.timestamp("0001-01-01T00:00:00Z") == 0


def probe(rendered: Rendered, name: str, folder: Path, **programs: str) -> str:
    """Return the output of a probe on a host with these programs; the engine has no container."""
    for command_name, body in {"docker": "exit 1", **programs}.items():
        (folder / command_name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / command_name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    script = str(rendered.folder / "prometheus/probes.d" / name)
    return subprocess.run(["sh", script], env=environment, check=True, capture_output=True, text=True).stdout


def test_placeholder_certificate_has_expired(rendered: Rendered, tmp_path: Path) -> None:
    """No client accepts it: an alert about the certificate must not wait ten years."""
    file, metric = rendered.folder / "nginx/tls/fullchain.pem", "wearon_certificate_expiry_timestamp_seconds"
    file.unlink(missing_ok=True)
    assert probe(rendered, "nginx", tmp_path).endswith(f"{metric} 0\n"), "there is no file"
    for name, days in (("placeholder", 0), ("api.example.test", 30)):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        subprocess.run(
            [*command, "-days", "30", "-subj", f"/CN={name}", "-keyout", tmp_path / "key", "-out", file],
            check=True,
            capture_output=True,
        )
        expiry = float(probe(rendered, "nginx", tmp_path).split()[-1])
        assert expiry == pytest.approx(days and time.time() + days * 86400, abs=60)


def test_certificate_is_the_one_that_nginx_shows(rendered: Rendered, tmp_path: Path) -> None:
    """Its file may be newer than what a running nginx has loaded."""
    for name, days in (("shown", 7), ("file", 30)):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        out = ["-subj", f"/CN={name}", "-keyout", f"{tmp_path}/{name}.key", "-out", f"{tmp_path}/{name}.pem"]
        subprocess.run([*command, "-days", str(days), *out], check=True, capture_output=True)
    (rendered.folder / "nginx/tls/fullchain.pem").write_text((tmp_path / "file.pem").read_text())
    serve = ["openssl", "s_server", "-accept", "127.0.0.9:8443", "-cert", "shown.pem", "-key", "shown.key", "-quiet"]
    with subprocess.Popen(serve, cwd=tmp_path) as server:
        try:
            for _ in range(100):
                expiry = float(probe(rendered, "nginx", tmp_path, docker="echo 127.0.0.9").split()[-1])
                if expiry < time.time() + 8 * 86400:
                    break
            assert expiry == pytest.approx(time.time() + 7 * 86400, abs=60)
        finally:
            server.kill()


def newest(text: str) -> float:
    found = re.search(r"^wearon_backup_timestamp_seconds (\S+)$", text, re.M)
    assert found
    return float(found[1])


def test_age_of_the_backup_is_that_of_the_newest_archive(render: Callable[..., Rendered], tmp_path: Path) -> None:
    stack, probes = Rendered(tmp_path), tmp_path / "prometheus/probes.d"
    probes.mkdir(parents=True)
    script = (render("local", **FULL).folder / "prometheus/probes.d/backup").read_text()
    (probes / "backup").write_text(script.replace("/var/backups/wearon", str(tmp_path)))
    assert newest(probe(stack, "backup", tmp_path)) == 0
    for number in (1, 3, 2):
        path = tmp_path / f"wearon-{number}.tar.age"
        path.touch()
        os.utime(path, (number, number))
    assert newest(probe(stack, "backup", tmp_path)) == 3


def test_bridge_that_does_not_answer_is_down(rendered: Rendered, tmp_path: Path) -> None:
    """And where there is no bridge nothing is said."""
    assert probe(rendered, "whatsapp_bridge", tmp_path) == ""
    for code, up in ((7, "0"), (0, "1")):
        printed = probe(rendered, "whatsapp_bridge", tmp_path, docker="echo 127.0.0.9", curl=f"exit {code}")
        assert printed.endswith(f"wearon_whatsapp_bridge_up {up}\n")


def test_probe_that_fails_is_not_passed_over(host_metrics: Any, tmp_path: Path) -> None:
    """The file of before stays, its timestamp grows old and an alert fires."""
    for name, body in (("one", "echo one 1"), ("two", "exit 3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    printed = host_metrics.probed(tmp_path)
    assert next(printed) == "one 1\n"
    with pytest.raises(subprocess.CalledProcessError):
        next(printed)


def test_samples_of_one_metric_stand_together(host_metrics: Any) -> None:
    samples = [
        ("wearon_container_healthy", '{service="a"}', 1),
        ("wearon_host_metrics_timestamp_seconds", "", 7),
        ("wearon_container_healthy", '{service="b"}', 0),
    ]
    assert "".join(host_metrics.render(samples)) == (
        '# TYPE wearon_container_healthy gauge\nwearon_container_healthy{service="a"} 1\n'
        'wearon_container_healthy{service="b"} 0\n'
        "# TYPE wearon_host_metrics_timestamp_seconds gauge\nwearon_host_metrics_timestamp_seconds 7\n"
    )
