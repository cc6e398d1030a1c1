"""Files that Grafana reads: it stops at a broken alerting file, and ignores unknown keys."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests import render as renderer
from tests.alerts.promtool import BUDGET, HERE, STEP, seconds
from tests.programs import on_this_machine

FILES = ["rules.yml", "contact_points.yml", "policies.yml", "messages.yml"]
ROOT = HERE.parents[1]
#: The host writes its own metrics every 15 s (docs/host-metrics.md).
TEXT_FILE = 15


def load(folder: Path, name: str) -> Any:
    return yaml.safe_load((folder / name).read_text())


def grafana_rules(folder: Path) -> dict[str, dict[str, Any]]:
    return {rule["uid"]: rule for group in load(folder, "rules.yml")["groups"] for rule in group["rules"]}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("inventory", ["rendered", "sparse"])
def test_files_fit_the_schema(inventory: str, name: str, request: pytest.FixtureRequest) -> None:
    document = load(request.getfixturevalue(inventory), name)
    schema = yaml.safe_load((HERE / "grafana.schema.yml").read_text())
    problems = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)]
    assert not problems


@pytest.mark.parametrize("name", ["datasources.yml", "dashboards.yml"])
@pytest.mark.parametrize("variables", [renderer.FULL, renderer.SPARSE], ids=["full", "sparse"])
def test_provisioning_fits_the_schema(
    variables: dict[str, Any], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = renderer.stack(tmp_path_factory, "local", **variables) / "grafana/staged/provisioning"
    assert not provisioning_problems(name, yaml.safe_load(next(folder.rglob(name)).read_text()))


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/grafana/files/dashboards/*.json")), ids=lambda path: path.stem)
def test_dashboards_fit_the_schema(path: Path) -> None:
    assert not provisioning_problems("dashboard", json.loads(path.read_text()))


def provisioning_problems(kind: str, document: Any) -> list[str]:
    schema = yaml.safe_load((HERE / "provisioning.schema.yml").read_text())
    checked = {"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]}
    Draft202012Validator.check_schema(checked)
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(checked).iter_errors(document)]


def test_both_evaluators_have_the_same_rules(rendered: Path, rules: dict[str, dict[str, Any]]) -> None:
    grafana = grafana_rules(rendered)
    prometheus = [rule for group in load(rendered, "prometheus_rules.yml")["groups"] for rule in group["rules"]]
    by_uid = {rule["alert"]: rule for rule in prometheus if "alert" in rule}
    assert grafana.keys() == rules.keys()
    assert by_uid.keys() == {uid for uid, rule in rules.items() if "expr" in rule}
    for uid, rule in by_uid.items():
        query, threshold = grafana[uid]["data"]
        evaluator = threshold["model"]["conditions"][0]["evaluator"]
        sign = {"gt": ">", "lt": "<"}[evaluator["type"]]
        assert rule["expr"] == f"({query['model']['expr']}) {sign} {evaluator['params'][0]}", uid
        assert rule["for"] == grafana[uid]["for"]


def test_no_query_compares_by_itself(rules: dict[str, dict[str, Any]]) -> None:
    """In Grafana a comparison that is true for the value 0 counts as normal."""
    for uid, rule in rules.items():
        assert not re.search(r"== 0\)?$|< \d+\)?$", rule.get("expr", "")), uid


def test_states_follow_from_the_data(rendered: Path, rules: dict[str, dict[str, Any]]) -> None:
    for uid, rule in grafana_rules(rendered).items():
        assert rule["noDataState"] == ("Alerting" if rules[uid]["absent"] == "self" else "OK"), uid
        if rules[uid]["severity"] != "none":
            assert rule["execErrState"] == {"critical": "Error", "warning": "KeepLast"}[rules[uid]["severity"]], uid
    assert grafana_rules(rendered)["heartbeat"]["execErrState"] == "OK", (
        "a heart that beats without data watches nothing"
    )


def test_critical_faults_are_told_within_five_minutes(rendered: Path) -> None:
    """Until a rule fires: test_rules.py, with BUDGET. Then a message has to go out."""
    interval = max(seconds(group["interval"]) for group in load(rendered, "rules.yml")["groups"])
    routes = load(rendered, "policies.yml")["policies"][0]["routes"]
    waits = [
        seconds(route["group_wait"]) for route in routes if ["severity", "=", "critical"] in route["object_matchers"]
    ]
    assert STEP + TEXT_FILE + BUDGET + interval + waits[0] <= 300
    # Whatever joins a group that was told already does not wait long either.
    assert all(
        seconds(route["group_interval"]) <= 60
        for route in routes
        if ["severity", "=", "critical"] in route["object_matchers"]
    )


def test_every_alert_has_a_way(rendered: Path) -> None:
    (tree,) = load(rendered, "policies.yml")["policies"]
    severities = {
        matcher[2] for route in tree["routes"] for matcher in route["object_matchers"] if matcher[0] == "severity"
    }
    assert severities == {"critical", "warning"}
    assert any("DatasourceError" in matcher[2] for route in tree["routes"] for matcher in route["object_matchers"])
    named = {point["name"] for point in load(rendered, "contact_points.yml")["contactPoints"]}
    assert {tree["receiver"], *(route["receiver"] for route in tree["routes"])} == named


def test_bridge_gets_what_it_reads(rendered: Path) -> None:
    """The path with the recipient, the bearer out of a file, a message that is not empty."""
    receivers = {one["uid"]: one for one in load(rendered, "contact_points.yml")["contactPoints"][0]["receivers"]}
    base = "http://whatsapp-bridge:8080/whatsapp/send/grafana-alert"
    assert receivers["whatsapp-1"]["settings"]["url"] == f"{base}/user/491701234567"
    assert receivers["whatsapp-2"]["settings"]["url"] == f"{base}/group/120363012345678901"
    for uid in ("whatsapp-1", "whatsapp-2"):
        settings = receivers[uid]["settings"]
        assert settings["authorization_credentials"].startswith("$__file{/run/secrets/")
        assert "wearon.message" in settings["message"]
        assert not receivers[uid].get("disableResolveMessage")
    assert receivers["email"]["settings"]["addresses"] == "ops@example.com;boss@example.com"
    assert receivers["webhook"]["settings"]["url"] == "https://hooks.example.com/a$$b"


def test_availability_is_the_same_at_any_scrape_interval(rules: dict[str, dict[str, Any]], sparse: Path) -> None:
    """A recorded share stands for the time until the next one."""
    slow = {rule["uid"]: rule for group in json.loads((sparse / "alerts.json").read_text()).values() for rule in group}
    for uid in ("availability-burning-fast", "availability-burning", "availability-missed"):
        assert rules[uid]["expr"].count("]) * 15 / ") == 2
        assert slow[uid]["expr"] == rules[uid]["expr"].replace("]) * 15 / ", "]) * 30 / ")


def test_what_is_switched_off_is_taken_out_of_grafana(sparse: Path) -> None:
    deleted = {rule["uid"] for rule in load(sparse, "rules.yml")["deleteRules"]}
    bridge = {f"bridge-{name}" for name in ("down", "logged-out", "outdated", "undelivered", "failing")}
    assert deleted == {"redis-down", "redis-memory", "redis-persistence", "redis-rejected", *bridge, "heartbeat"}
    assert not deleted & grafana_rules(sparse).keys()
    points = load(sparse, "contact_points.yml")
    assert {"webhook", "heartbeat", "whatsapp-2"} <= {point["uid"] for point in points["deleteContactPoints"]}


def test_titles_and_uids_are_unique(rules: dict[str, dict[str, Any]], groups: dict[str, list[dict[str, Any]]]) -> None:
    assert len(rules) == sum(len(group) for group in groups.values())
    assert len({rule["title"] for rule in rules.values()}) == len(rules)


def test_queries_of_logs_are_logql(rules: dict[str, dict[str, Any]]) -> None:
    queries = {uid: rule["logql"] for uid, rule in rules.items() if "logql" in rule}
    assert dict(zip(queries, complaints([*queries.values()]), strict=True)) == dict.fromkeys(queries)
    assert complaints(['sum(count_over_time({service="nginx"} | jsn [5m]))', "{a=b}"]) != [None, None]


def complaints(queries: list[str]) -> list[str | None]:
    """The verdict of Grafana's own grammar on LogQL queries."""
    folder = HERE / "logql"
    if not (folder / "node_modules/.package-lock.json").exists():
        subprocess.run(
            [on_this_machine("npm"), "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=120
        )
    result = subprocess.run(
        [on_this_machine("node"), "check.mjs"],
        cwd=folder,
        input=json.dumps(queries),
        capture_output=True,
        text=True,
        check=True,
    )
    answer: list[str | None] = json.loads(result.stdout)
    return answer


def test_message_says_what_how_bad_since_when_and_what_to_do(rendered: Path, tmp_path: Path) -> None:
    """By Alertmanager's own tool: Grafana renders messages with the same library and data."""
    (tmp_path / "wearon.tmpl").write_text(load(rendered, "messages.yml")["templates"][0]["template"])
    since, until = "2026-11-25T09:05:00Z", "2026-11-25T09:15:00Z"
    notes = {
        "summary": "Redis does not answer",
        "description": "Nothing can be queued.",
        "runbook_url": "https://example.com/runbook.md#redis-is-down",
    }
    firing = {"status": "firing", "startsAt": since, "annotations": notes}
    data = {
        "alerts": [
            {**firing, "labels": {"alertname": "Redis is down", "severity": "critical"}},
            {**firing, "labels": {"alertname": "DatasourceError", "rulename": "Redis is down", "severity": "critical"}},
            {
                **firing,
                "labels": {"alertname": "A disk will soon be full", "severity": "warning"},
                "status": "resolved",
                "endsAt": until,
            },
        ],
        "groupLabels": {"alertname": "Redis is down"},
    }
    (tmp_path / "data.json").write_text(json.dumps(data))

    runbook = yaml.safe_load((ROOT / "roles/grafana/defaults/main.yml").read_text())["grafana_runbook_url"]

    def text(name: str) -> str:
        render = [
            on_this_machine("amtool"),
            "template",
            "render",
            "--template.glob=wearon.tmpl",
            "--template.data=data.json",
        ]
        template = f'--template.text={{{{ template "{name}" . }}}}'
        result = subprocess.run([*render, template], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert text("wearon.message").strip().splitlines() == [
        "🔴 Redis is down",
        "Redis does not answer. Nothing can be queued.",
        "Since 25 Nov 09:05 UTC. What to do: https://example.com/runbook.md#redis-is-down",
        "",
        "🔴 Cannot be checked: Redis is down",
        "Grafana gets no answer from Prometheus or Loki, so this fault would stay unseen.",
        f"Since 25 Nov 09:05 UTC. What to do: {runbook}#an-alert-cannot-be-checked",
        "",
        "🟢 Over: A disk will soon be full",
        "From 25 Nov 09:05 to 09:15 UTC.",
    ]
    assert "Redis is down" in text("wearon.subject")


def test_texts_fit_a_phone_and_name_the_fault(rules: dict[str, dict[str, Any]]) -> None:
    """With start and link below the 660 characters that the Cloud API's template has room for."""
    for uid, rule in rules.items():
        assert len(f"{rule['title']}: {rule['summary']}. {rule['description']}") <= 420, uid
        assert not re.search(r"[Ss]ome(thing|body)|\bodd\b|nobody|whoever", rule["title"] + rule["summary"]), uid
        assert (rule["summary"][-1], rule["description"][-1]) != (".", "."), uid
        assert rule["description"].endswith("."), uid
