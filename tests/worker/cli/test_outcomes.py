"""`wearon-worker outcomes` on a real Valkey."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from tests.sandbox import Sandbox
from worker.cli.outcomes import command
from worker.generation import keys

SESSION = "0192f0c1-0000-7000-8000-000000000001"


@pytest.fixture
def outcomes(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name, value in sandbox.env().items():
        monkeypatch.setenv(name, value)
    outcome = json.dumps({"kind": "failed", "channel": "b2c", "reason": "worker_lost"})
    kept = {"session_id": SESSION, "outcome": outcome, "error": "P0001 user has no balance", "time": 1.0}
    sandbox.redis.hset(keys.REJECTED, SESSION, json.dumps(kept))
    return lambda *arguments: CliRunner().invoke(command, arguments)


def test_list_and_show_name_what_the_database_said(outcomes: Callable[..., Result]) -> None:
    assert SESSION in outcomes("list").output
    shown = outcomes("show", SESSION).output
    assert "worker_lost" in shown
    assert "P0001 user has no balance" in shown


def test_retry_lets_the_outcome_wait_for_a_worker_again(outcomes: Callable[..., Result], sandbox: Sandbox) -> None:
    assert outcomes("retry", SESSION).output == f"{SESSION} will be tried again\n"
    assert "worker_lost" in sandbox.redis.hgetall(keys.SETTLEMENTS)[SESSION]
    assert "0 rejected outcomes" in outcomes("list").output


def test_drop_deletes_the_outcome(outcomes: Callable[..., Result], sandbox: Sandbox) -> None:
    assert outcomes("drop", "--all").output == f"{SESSION} dropped\n"
    assert not sandbox.redis.exists(keys.REJECTED, keys.SETTLEMENTS)


@pytest.mark.parametrize("arguments", [("retry",), ("retry", SESSION, "--all"), ("show", "unknown")])
def test_a_mistake_is_said_and_changes_nothing(
    outcomes: Callable[..., Result], sandbox: Sandbox, arguments: tuple[str, ...]
) -> None:
    result = outcomes(*arguments)
    assert result.exit_code != 0
    assert "either the session ids or --all" in result.output or "no rejected outcome" in str(result.exception)
    assert sandbox.redis.hlen(keys.REJECTED) == 1
