"""Alerts by WhatsApp's Business Cloud API: Grafana's requests, held against an API that refuses what Meta refuses.

The payload is a template in Go's language. Alertmanager's amtool fills it in with the same engine, functions and data
that Grafana has; only functions that both know are used.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests import render as renderer
from tests.alerts.cloud_api import BODY, MESSAGE_CHARACTERS, Account, serving
from tests.programs import on_this_machine

TOKEN = str(renderer.CLOUD["grafana_whatsapp_token"])
FILES = "grafana/staged/provisioning/alerting"
ALERT = {
    "status": "firing",
    "startsAt": "2026-11-25T09:05:00Z",
    "endsAt": "2026-11-25T09:15:00Z",
    "labels": {"alertname": "Redis is down", "severity": "critical"},
    "annotations": {"summary": "Redis does not answer", "runbook_url": "https://example.com/r.md#redis-is-down"},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return renderer.stack(tmp_path_factory, "local", **renderer.CLOUD)


@pytest.fixture(scope="module")
def receivers(stack: Path) -> list[dict[str, Any]]:
    points = yaml.safe_load((stack / FILES / "contact_points.yml").read_text())
    return [one for one in points["contactPoints"][0]["receivers"] if one["uid"].startswith("whatsapp-")]


@pytest.fixture
def account() -> Account:
    return Account(TOKEN, str(renderer.CLOUD["grafana_whatsapp_number_id"]), {("wearon_alert", "en"): BODY})


@pytest.fixture
def api(account: Account) -> Iterator[str]:
    with serving(account) as address:
        yield address


def send(
    api: str, receiver: dict[str, Any], folder: Path, alerts: list[dict[str, Any]], token: str = TOKEN
) -> httpx.Response:
    """Send a notification as Grafana does: the payload filled in, `$$` read as `$`, the token out of its file."""
    settings = receiver["settings"]
    (folder / "data.json").write_text(json.dumps({"alerts": alerts}))
    (folder / "none.tmpl").write_text("")
    text = settings["payload"]["template"].replace("$$", "$")
    command = [
        "template",
        "render",
        "--template.glob=none.tmpl",
        "--template.data=data.json",
        f"--template.text={text}",
    ]
    done = subprocess.run(
        [on_this_machine("amtool"), *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    path = settings["url"].removeprefix("https://graph.facebook.com")
    headers = {"Authorization": f"{settings['authorization_scheme']} {token}"}
    return httpx.post(api + path, content=done.stdout, headers=headers)


def alert(**labels: str) -> dict[str, Any]:
    return {**ALERT, "labels": {**ALERT["labels"], **labels}}  # type: ignore[dict-item]


def noted(summary: str) -> dict[str, Any]:
    return {**ALERT, "annotations": {**ALERT["annotations"], "summary": summary}}  # type: ignore[dict-item]


def test_each_phone_gets_the_alert(api: str, account: Account, receivers: list[dict[str, Any]], tmp_path: Path) -> None:
    for receiver in receivers:
        assert send(api, receiver, tmp_path, [ALERT]).status_code == 200
    link = "https://example.com/r.md#redis-is-down"
    text = f"🔴 Redis is down: Redis does not answer. Since 25 Nov 09:05 UTC. What to do: {link}"
    expected = BODY.replace("{{1}}", "1 firing").replace("{{2}}", text)
    assert account.delivered == [("491701234567", expected), ("4915112345678", expected)]


def test_consequence_is_told_unless_further_alerts_need_the_room(
    api: str, account: Account, receivers: list[dict[str, Any]], tmp_path: Path
) -> None:
    one = {**ALERT, "annotations": {**ALERT["annotations"], "description": "Nothing can be queued."}}  # type: ignore[dict-item]
    assert send(api, receivers[0], tmp_path, [one]).status_code == 200
    assert send(api, receivers[0], tmp_path, [one, one]).status_code == 200
    (_, alone), (_, together) = account.delivered
    assert "Redis is down: Redis does not answer. Nothing can be queued. Since 25 Nov" in alone
    assert together.count("Redis is down: Redis does not answer. Since 25 Nov") == 2


def test_its_end_and_a_rule_that_cannot_be_checked_are_told(
    api: str, account: Account, receivers: list[dict[str, Any]], tmp_path: Path
) -> None:
    over = {**alert(severity="warning"), "status": "resolved"}
    unchecked = alert(alertname="DatasourceError", rulename="Queue is old", severity="warning")
    assert send(api, receivers[0], tmp_path, [over]).status_code == 200
    assert send(api, receivers[0], tmp_path, [unchecked]).status_code == 200
    (_, first), (_, second) = account.delivered
    assert "1 over.\n🟢 Over: Redis is down. From 25 Nov 09:05 to 09:15 UTC.\n" in first
    assert (
        "1 firing.\n🟡 Cannot be checked: Queue is old. Grafana gets no answer from Prometheus or Loki. Since" in second
    )
    assert "runbook.md#an-alert-cannot-be-checked" in second


@pytest.mark.parametrize(
    "alerts",
    [
        [noted("two\nlines,\ta tab,      six blanks")],
        [noted('a "quoted" C:\\path with \\"both\\" and a trailing \\')],
        [noted("Ünïcode 🔴, a null\x00, a line\u2028separator, {{ braces }} and 100 %s")],
        [noted("x" * 5000)],
        [noted('"\\' * 2000)],
        [noted("ü" * 900)],
        [alert(host=f"host-{number}") for number in range(40)],
        [{**ALERT, "annotations": {}}],
    ],
    ids=["newlines", "quotes", "unicode", "long", "long-quotes", "long-umlauts", "many", "bare"],
)
def test_any_text_is_one_that_whatsapp_takes(
    api: str, account: Account, receivers: list[dict[str, Any]], tmp_path: Path, alerts: list[dict[str, Any]]
) -> None:
    answer = send(api, receivers[0], tmp_path, alerts)
    assert answer.status_code == 200, answer.text
    assert len(account.delivered[0][1]) <= MESSAGE_CHARACTERS


def test_quotes_arrive_as_they_were_written(
    api: str, account: Account, receivers: list[dict[str, Any]], tmp_path: Path
) -> None:
    send(api, receivers[0], tmp_path, [noted('a "quoted" C:\\path $HOME ${HOME} $1')])
    assert 'Redis is down: a "quoted" C:\\path $HOME ${HOME} $1. Since' in account.delivered[0][1]


def test_a_refused_message_is_an_error_for_grafana(
    api: str, account: Account, receivers: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Grafana counts it and tells the second way (`notifications-failing`); the next flush tries again."""
    answer = send(api, receivers[0], tmp_path, [ALERT], token="EAAexpired")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, 190)
    account.templates.clear()
    answer = send(api, receivers[0], tmp_path, [ALERT])
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, 132001)
    assert not account.delivered


def test_token_is_read_from_its_file_and_stands_in_no_other(stack: Path, receivers: list[dict[str, Any]]) -> None:
    for receiver in receivers:
        assert receiver["settings"]["authorization_credentials"] == "$__file{/run/secrets/whatsapp_token}"
    holders = [path for path in stack.rglob("*") if path.is_file() and TOKEN in path.read_text(errors="replace")]
    assert not holders, "only Ansible's copy module may write it, to secrets/grafana.whatsapp_token"
    compose = yaml.safe_load((stack / "compose.d/grafana.yml").read_text())
    assert {"source": "grafana.whatsapp_token", "target": "whatsapp_token"} in compose["services"]["grafana"]["secrets"]
    assert yaml.safe_load((stack / "compose.d/whatsapp_bridge.yml").read_text())["services"] == {}


def test_approved_text_is_the_documented_one() -> None:
    page = (Path(__file__).parents[2] / "docs/whatsapp.md").read_text()
    (block,) = re.findall(r"```text\n(.*?)\n```", page, re.DOTALL)
    assert block == BODY
