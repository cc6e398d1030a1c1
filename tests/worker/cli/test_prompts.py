"""`wearon-worker prompts` on a real Redis and a real database: its tables, and what a person may get wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.sandbox import Sandbox
from worker.cli.prompts import command
from worker.prompts import catalogue

A, B = "2026-12-a", "2026-12-b"
Run = Callable[..., Result]


@pytest.fixture
def run(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name, value in sandbox.env(PROMPT_EXPERIMENT=json.dumps({A: 90, B: 10}), COLUMNS="200").items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(command, arguments)


def read(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_versions_are_listed_with_weights_and_pauses(run: Run) -> None:
    assert "worker-1" in run("list").output
    assert run("pause", B, "--reason", "looks odd").output == f"{B} is paused; every worker follows within 5 s\n"
    assert "nothing has changed" in run("pause", B).output
    listed = {row["version"]: row for row in read(run("list", "--json"))["versions"]}
    assert (listed[A]["weight"], listed[A]["control"], listed[A]["paused_since"]) == (90, True, None)
    assert listed[B]["reason"] == "looks odd"
    assert f"{B}  2026-12-01  weight 10, paused since" in run("list").output
    assert f"{B} is resumed" in run("resume", B).output
    assert "nothing has changed" in run("resume", B).output


def test_a_text_is_shown(run: Run) -> None:
    assert run("show", A).output == catalogue.versions()[A].text + "\n"


def test_results_stand_beside_those_of_the_control(sandbox: Sandbox, run: Run) -> None:
    assert run("compare").output == "No session has asked for a picture in this time.\n"
    for version, completed, blocked in ((A, 180, 4), (B, 90, 30), ("message-1a2b3c4d", 3, 0)):
        sandbox.database.execute(
            "insert into wearon.session_events (session_id, channel, kind, prompt_version, result, cost_usd, "
            "processing_time_ms) select gen_random_uuid(), 'b2c', 'ended', $1, case when n <= $2 then 'completed' "
            "else 'moderation_blocked' end, 0.04 + n * 0.0001, 20000 + n from generate_series(1, $3::int) n",
            *(version, completed, completed + blocked),
        )
    rows = {row["version"]: row for row in read(run("compare", "--since", "1h", "--json"))["versions"]}
    assert rows[A]["note"] == "control"
    assert rows[B]["note"] == "is blocked more often, succeeds less often"
    assert rows[B]["moderation"]["value"] == 0.25
    assert rows["message-1a2b3c4d"]["note"] == "too little data: 3 sessions, 100 are needed"
    line = next(line for line in run("compare").output.splitlines() if line.startswith(B))
    assert "25.0 (18.1-33.4) %" in line
    assert read(run("compare", "--store", "0192f0c4-aaaa-7000-8000-000000000001", "--json"))["versions"] == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["compare", "--since", "yesterday"], "yesterday is neither a span like 30m, 24h or 7d nor a moment"),
        (["compare", "--since", "31d"], "the ends of sessions are kept for 30 days"),
        (["compare", "--since", "999999d"], "999999d is"),
        (["compare", "--since", "2999-01-01"], "2999-01-01 is in the future"),
        (["compare", "--since", "2026-11-27T10:00:00+99:00"], "is neither a span"),
        (["compare", "--store", "shop"], "'shop' is not a valid UUID"),
        (["show", "as-sent"], "the version 'as-sent' is unknown; this worker has 2026-12-a, 2026-12-b, worker-1"),
        (["pause", "2026-12-x"], "the version '2026-12-x' is unknown; this worker has 2026-12-a, 2026-12-b, as-sent"),
    ],
)
def test_a_mistake_is_one_sentence(run: Run, arguments: list[str], problem: str) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert problem in result.output + str(result.exception)
