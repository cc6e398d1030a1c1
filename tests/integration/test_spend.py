"""Budgets in a running worker: a payer without a rest gets its credits back, and the others go on."""

import csv
import io
import json
from datetime import UTC, datetime

import pytest

from tests import command
from tests.integration.conftest import QUICK
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued

#: A picture of the sandbox costs about 0.05 USD.
BUDGETS = {"store": {"day": 0.12}, "b2c": {"month": 10}}
SESSIONS = 5
#: Answers that are paid for and make no picture.
LOST = ("not_base64", "not_image")


def run(world: Sandbox, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    done = command.run(world.env(BUDGETS=json.dumps(BUDGETS)), *arguments)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def spent(world: Sandbox) -> tuple[str, list[Queued], list[Queued]]:
    """A store and its sessions beyond its budget, and sessions of users."""
    world.reset()
    world.openai.set(compose=False)
    store = world.producer.store(balance=SESSIONS)
    with WorkerProcess(world, **QUICK, BUDGETS=json.dumps(BUDGETS)) as worker:
        of_store = [world.producer.b2b(store) for _ in range(SESSIONS)]
        of_users = [world.producer.b2c() for _ in range(SESSIONS)]
        for fault in LOST:
            world.openai.fault(fault, contains=fault)
        lost = [world.producer.b2c(prompt=fault) for fault in LOST]
        for one in (*of_store, *of_users, *lost):
            world.settled(one.channel, one.session_id, 60)
        failing = worker.logs("generation_failing", reason="budget_exhausted")
        assert {line["detail"] for line in failing} == {
            f"the budget of {store} for this day (0.12 USD) has no room for another picture"
        }
        wait_for(lambda: world.redis.zcard("wearon:spend:calls") == 0, 10, "a reservation is left")
        assert worker.stop() == 0
    return store, of_store, of_users


def test_a_store_beyond_its_budget_is_refunded_and_users_go_on(
    world: Sandbox, spent: tuple[str, list[Queued], list[Queued]]
) -> None:
    store, of_store, of_users = spent
    rows = [world.session("b2b", one.session_id) for one in of_store]
    failed = [row for row in rows if row["status"] == "failed"]
    cost = float(world.database.value("select max(cost_usd) from wearon.session_events where store_id = $1", store))
    assert 0 < len(failed) < SESSIONS
    assert all("credit has been returned" in row["error_message"] for row in failed)
    assert world.balance(store) == len(failed)
    assert cost * (SESSIONS - len(failed)) <= 0.12 < cost * (SESSIONS - len(failed) + 1)
    assert {world.session("b2c", one.session_id)["status"] for one in of_users} == {"completed"}
    assert len(world.calls()) == 2 * SESSIONS - len(failed) + len(LOST)
    assert run(world, "audit")[0] == 0


@pytest.mark.usefixtures("spent")
def test_a_picture_that_was_paid_for_and_lost_counts(world: Sandbox) -> None:
    query = "select count(*) from wearon.session_events where result = 'failed' and cost_usd > 0.04"
    assert world.database.value(query) == len(LOST)


def test_the_command_shows_what_openai_was_paid_beside_the_budgets(
    world: Sandbox, spent: tuple[str, list[Queued], list[Queued]]
) -> None:
    store, *_ = spent
    rows = world.database.fetch(
        "select coalesce(store_id::text, 'b2c') as payer, sum(cost_usd) as usd from wearon.session_events"
        " where cost_usd is not null group by 1"
    )
    paid = {row["payer"]: float(row["usd"]) for row in rows}
    code, out, _ = run(world, "spend", "--json")
    found = json.loads(out)
    today = {row["name"]: row for row in found["rows"] if row["kind"] == "payer" and row["period"].count("-") == 2}
    assert (code, found["reserved_usd"]) == (0, 0)
    assert {name: row["usd"] for name, row in today.items()} == {**paid, "all": pytest.approx(sum(paid.values()))}
    assert {name: row["budget_usd"] for name, row in today.items()} == {store: 0.12, "b2c": None, "all": None}
    code, out, _ = run(world, "spend", "--csv", "--month", datetime.now(UTC).strftime("%Y-%m"))
    months = {row["name"]: row for row in csv.DictReader(io.StringIO(out)) if row["kind"] == "payer"}
    assert (code, float(months["b2c"]["usd"]), months["b2c"]["budget_usd"]) == (0, paid["b2c"], "10.0")
    code, out, _ = run(world, "spend")
    assert code == 0
    assert f"{paid[store] / 0.12:.0%} of 0.12" in out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--month", "2026-13"], "2026-13 is no month; write it as 2026-11"),
        (["--month", "9999-12"], "9999-12 is no month"),
        (["--month", "\uff12026-11"], "is no month"),
        (["--month", "2026-1"], "is no month"),
        (["--month", "2999-12"], "2999-12 is in the future"),
        (["--csv", "--json"], "--csv and --json exclude each other"),
    ],
)
def test_a_wrong_option_is_one_sentence(world: Sandbox, arguments: list[str], problem: str) -> None:
    code, out, err = run(world, "spend", *arguments)
    assert (code, out) == (2, "")
    assert problem in err
