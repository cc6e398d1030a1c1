"""The SQL functions that change a session's state, in a real PostgreSQL: who wins, who is paid back, who may call."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued
from tests.sandbox.sandbox import MIGRATION
from worker.generation.supabase.installed import MIGRATION_VERSION, SIGNATURES

PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
OPERATIONS = ("start", "requeue", "complete", "fail")


@dataclass(frozen=True)
class Case:
    """A session with one credit taken in one way, and what its failure must give back."""

    make: Callable[[Sandbox], Queued]
    #: What fail_generation answers, and whose balance then grows by one (None: nobody's).
    refund: str
    payer: str | None
    #: False: the ledger shows that the session must not run.
    paid: bool = True


def _shopper(sandbox: Sandbox) -> Queued:
    store = sandbox.producer.store()
    email = sandbox.producer.shopper(store, "Ann@Example.com")
    return sandbox.producer.b2b(store, paid_by="shopper", shopper_email=email, push=False)


def _store_with_shopper(sandbox: Sandbox) -> Queued:
    store = sandbox.producer.store()
    email = sandbox.producer.shopper(store, "Ann@Example.com")
    return sandbox.producer.b2b(store, shopper_email=email, push=False)


def _unmatched(sandbox: Sandbox) -> Queued:
    session = sandbox.producer.b2b(push=False)
    sandbox.database.execute(
        "update store_generation_sessions set request_id = 'req_other' where id = $1", session.session_id
    )
    return session


def _already_refunded(sandbox: Sandbox) -> Queued:
    session = sandbox.producer.b2b(push=False)
    sandbox.database.execute(
        "select refund_store_credits($1, 1, $2, 'Queue was away')", session.owner_id, session.request_id
    )
    return session


def _with_credits_used(credits: int | None) -> Callable[[Sandbox], Queued]:
    def make(sandbox: Sandbox) -> Queued:
        session = sandbox.producer.b2c(push=False)
        sandbox.database.execute(
            "update generation_sessions set credits_used = $2, created_at = null where id = $1",
            session.session_id,
            credits,
        )
        return session

    return make


def _parentheses(sandbox: Sandbox) -> Queued:
    store = sandbox.producer.store()
    email = sandbox.producer.shopper(store, "ann(home)@example.com")
    return sandbox.producer.b2b(store, paid_by="shopper", shopper_email=email, push=False)


def _cleaned_up(sandbox: Sandbox) -> Queued:
    """The app's own clean-up has refunded, and is about to fail the row."""
    session = sandbox.producer.b2c(push=False)
    sandbox.database.execute(
        "select refund_credits($1, 1, $2)",
        session.owner_id,
        f"Stuck job recovery: session {session.session_id} timed out after 10 minutes",
    )
    return session


def _app_refunded(sandbox: Sandbox) -> Queued:
    """The app could not queue the message, and its refund names no session."""
    session = sandbox.producer.b2c(push=False)
    sandbox.database.execute("select refund_credits($1, 1)", session.owner_id)
    return session


def _without_ledger(sandbox: Sandbox) -> Queued:
    session = sandbox.producer.b2c(push=False)
    sandbox.database.execute("delete from credit_transactions where user_id = $1", session.owner_id)
    return session


def _invented(sandbox: Sandbox) -> Queued:
    """A row that its user has written; the user's one deduction paid for another picture."""
    paid = sandbox.producer.b2c(push=False)
    functions = Functions(sandbox, paid)
    functions.start()
    functions.complete()
    return _written_by_its_user(sandbox, paid.owner_id)


def _written_by_its_user(sandbox: Sandbox, user: str) -> Queued:
    session_id = sandbox.database.value(
        "insert into generation_sessions (user_id, model_image_url, prompt_system, credits_used) "
        "values ($1, 'url', '', 1000) returning id::text",
        user,
    )
    return Queued("b2c", session_id, "req", user, {})


CASES = {
    "user": Case(lambda sandbox: sandbox.producer.b2c(push=False), "user", "user"),
    "store": Case(lambda sandbox: sandbox.producer.b2b(push=False), "store", "store"),
    "shopper": Case(_shopper, "shopper", "shopper"),
    "store, with a shopper's address": Case(_store_with_shopper, "store", "store"),
    "overage": Case(lambda sandbox: sandbox.producer.b2b(paid_by="overage", push=False), "overage", None),
    "unmatched": Case(_unmatched, "unmatched", None),
    "already refunded": Case(_already_refunded, "already_refunded", None, paid=False),
    "user, 1000 credits_used": Case(_with_credits_used(1000), "user", "user"),
    "user, no credits_used": Case(_with_credits_used(None), "user", "user"),
    "user, overflowing credits_used": Case(_with_credits_used(2**31 - 1), "user", "user"),
    "shopper with parentheses": Case(_parentheses, "shopper", "shopper"),
    "refunded by the app's clean-up": Case(_cleaned_up, "already_refunded", None, paid=False),
    "refunded by the app without a name": Case(_app_refunded, "unmatched", None, paid=False),
    "without a ledger": Case(_without_ledger, "unmatched", None),
    "invented by its user": Case(_invented, "unmatched", None, paid=False),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


class Functions:
    """The four functions on one session, and what the triggers saw of it."""

    def __init__(self, sandbox: Sandbox, session: Queued) -> None:
        self._database = sandbox.database
        self.session = session
        self._before = self._last_balance_change()

    def __call__(self, operation: str) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, operation)()
        return answer

    def start(self, owner: str | None = None) -> dict[str, Any]:
        return self._call("start_generation($1, $2, $3)", owner or self.session.owner_id)

    def requeue(self) -> dict[str, Any]:
        return self._call("requeue_generation($1, $2)")

    def complete(self, url: str = "https://x/a.jpg") -> dict[str, Any]:
        return self._call("complete_generation($1, $2, $3, 10, 20, 0.5, 3000)", url)

    def fail(self) -> dict[str, Any]:
        return self._call("fail_generation($1, $2, 'Sorry', 3000)")

    @property
    def row(self) -> dict[str, Any]:
        table = "generation_sessions" if self.session.channel == "b2c" else "store_generation_sessions"
        row = self._database.row(f"select * from {table} where id = $1", self.session.session_id)
        assert row is not None
        return row

    def given_back(self) -> list[tuple[str, int]]:
        """Payer and amount of every change of the owner's balances since the credit was taken."""
        rows = self._database.fetch(
            "select payer, delta from witness.balance_changes where owner_id = $1 and id > $2 order by id",
            *(self.session.owner_id, self._before),
        )
        return [(row["payer"], row["delta"]) for row in rows]

    def path(self) -> list[tuple[str, str]]:
        """Every change of the status."""
        rows = self._database.fetch(
            "select old_status, new_status from witness.status_changes "
            "where session_id = $1 and old_status is not null order by id",
            self.session.session_id,
        )
        return [(row["old_status"], row["new_status"]) for row in rows]

    def transactions(self, table: str, column: str, value: str) -> set[int]:
        """In which transactions the witness saw changes."""
        rows = self._database.fetch(
            f"select transaction from witness.{table} where {column} = $1 and id > $2 and "
            + ("new_status = 'failed'" if table == "status_changes" else "delta > 0"),
            *(value, 0 if table == "status_changes" else self._before),
        )
        return {row["transaction"] for row in rows}

    def _last_balance_change(self) -> int:
        return int(self._database.value("select coalesce(max(id), 0) from witness.balance_changes"))

    def _call(self, call: str, *arguments: object) -> dict[str, Any]:
        answer = self._database.value(f"select {call}", self.session.channel, self.session.session_id, *arguments)
        assert isinstance(answer, dict)
        return answer


class Model:
    """A model of the functions, for calls one after the other."""

    def __init__(self, case: Case) -> None:
        self.status = "queued"
        self._refund = case.refund
        self._paid = case.paid

    def __call__(self, operation: str) -> dict[str, Any]:
        allowed, after = {
            "start": (("queued",), "processing"),
            "requeue": (("processing",), "queued"),
            "complete": (("processing",), "completed"),
            "fail": (("queued", "processing"), "failed"),
        }[operation]
        changed = self.status in allowed and (self._paid or operation != "start")
        self.status = after if changed else self.status
        answer: dict[str, Any] = {"changed": changed, "status": self.status}
        return answer | ({"refund": self._refund if changed else None} if operation == "fail" else {})


# Any order, any number of callers


@cases
@PROPERTY
@given(operations=st.lists(st.sampled_from(OPERATIONS), max_size=12))
def test_calls_one_after_the_other_do_what_the_model_says(world: Sandbox, case: Case, operations: list[str]) -> None:
    functions, model = Functions(world, case.make(world)), Model(case)
    for operation in operations:
        expected = model(operation)
        answer = functions(operation)
        assert {key: answer[key] for key in expected} == expected
    assert functions.row["status"] == model.status
    refunded = model.status == "failed" and case.payer is not None
    assert functions.given_back() == ([(case.payer, 1)] if refunded else [])


@cases
@PROPERTY
@given(rounds=st.lists(st.lists(st.sampled_from(OPERATIONS), min_size=2, max_size=4), min_size=1, max_size=4))
def test_calls_at_once_end_a_session_once_and_refund_it_once(
    world: Sandbox, case: Case, rounds: list[list[str]]
) -> None:
    functions = Functions(world, case.make(world))
    answers: list[tuple[str, dict[str, Any]]] = []
    with ThreadPoolExecutor(4) as callers:
        for operations in rounds:
            answers += zip(operations, callers.map(functions, operations), strict=True)

    path = functions.path()
    assert set(path) <= {
        *(("queued", "processing"), ("processing", "queued"), ("processing", "completed")),
        *(("queued", "failed"), ("processing", "failed")),
    }
    ended = [operation for operation, answer in answers if answer["changed"] and operation in ("complete", "fail")]
    assert len(ended) <= 1
    assert len(path) == sum(answer["changed"] for _, answer in answers)
    failed = ended == ["fail"]
    assert (functions.row["status"] == "failed") == failed
    assert functions.given_back() == ([(case.payer, 1)] if failed and case.payer else [])


# Each on its own


@pytest.mark.parametrize("name", ["user", "store"])
def test_a_generation_that_succeeds_leaves_its_result_and_no_refund(sandbox: Sandbox, name: str) -> None:
    functions = Functions(sandbox, CASES[name].make(sandbox))
    functions.start()
    answer = functions.complete("https://x/a.jpg")
    assert answer == {"changed": True, "status": "completed", "image_url": "https://x/a.jpg"}
    row = functions.row
    assert (row["generated_image_url"], row["error_message"]) == ("https://x/a.jpg", None)
    assert (row["input_tokens"], row["output_tokens"], float(row["estimated_cost_usd"])) == (10, 20, 0.5)
    assert row["processing_time_ms"] == 3000
    assert row["completed_at"] >= row["created_at"]
    assert functions.given_back() == []


def test_a_late_finisher_learns_whose_result_is_stored(sandbox: Sandbox) -> None:
    functions = Functions(sandbox, sandbox.producer.b2b(push=False))
    functions.start()
    functions.complete("https://x/first.jpg")
    answer = functions.complete("https://x/second.jpg")
    assert answer == {"changed": False, "status": "completed", "image_url": "https://x/first.jpg"}
    assert functions.row["generated_image_url"] == "https://x/first.jpg"


@cases
def test_a_failure_gives_the_credit_back_to_whoever_paid(sandbox: Sandbox, case: Case) -> None:
    functions = Functions(sandbox, case.make(sandbox))
    assert functions.fail() == {"changed": True, "status": "failed", "refund": case.refund}
    assert functions.given_back() == ([(case.payer, 1)] if case.payer else [])
    row = functions.row
    assert (row["status"], row["error_message"], row["processing_time_ms"]) == ("failed", "Sorry", 3000)
    assert row["completed_at"] is not None


@pytest.mark.parametrize("name", ["user", "store", "shopper"])
def test_the_refund_and_the_status_are_one_transaction(sandbox: Sandbox, name: str) -> None:
    functions = Functions(sandbox, CASES[name].make(sandbox))
    functions.fail()
    status = functions.transactions("status_changes", "session_id", functions.session.session_id)
    balance = functions.transactions("balance_changes", "owner_id", functions.session.owner_id)
    assert status == balance
    assert len(status) == 1


@pytest.mark.parametrize("name", ["user", "store", "shopper"])
def test_the_ledger_line_of_a_refund_names_the_session(sandbox: Sandbox, name: str) -> None:
    functions = Functions(sandbox, CASES[name].make(sandbox))
    functions.fail()
    (line,) = [row for row in sandbox.ledger(functions.session.owner_id) if row["type"] == "refund"]
    assert f"(session={functions.session.session_id})" in line["description"]
    assert line["request_id"] == (None if name == "user" else functions.session.request_id)


@pytest.mark.parametrize("name", ["user", "store"])
def test_a_refund_that_is_refused_leaves_the_session_open(sandbox: Sandbox, name: str) -> None:
    functions = Functions(sandbox, CASES[name].make(sandbox))
    sandbox.database.execute(f"delete from {name}_credits where {name}_id = $1", functions.session.owner_id)
    with pytest.raises(asyncpg.RaiseError, match="has no balance"):
        functions.fail()
    assert functions.row["status"] == "queued"


def test_the_shopper_is_found_however_the_address_is_written(sandbox: Sandbox) -> None:
    functions = Functions(sandbox, _shopper(sandbox))
    sandbox.database.execute(
        "update store_generation_sessions set shopper_email = 'ANN@example.com' where id = $1",
        functions.session.session_id,
    )
    assert functions.fail()["refund"] == "shopper"
    assert functions.given_back() == [("shopper", 1)]


def test_sessions_of_the_deprecated_status_pending_are_started_and_failed(sandbox: Sandbox) -> None:
    for operation, status in (("start", "processing"), ("fail", "failed")):
        functions = Functions(sandbox, sandbox.producer.b2c(push=False))
        sandbox.database.execute(
            "update generation_sessions set status = 'pending' where id = $1", functions.session.session_id
        )
        assert functions(operation)["changed"]
        assert functions.row["status"] == status


def test_a_second_start_clears_the_message_of_the_first_try(sandbox: Sandbox) -> None:
    functions = Functions(sandbox, sandbox.producer.b2c(push=False))
    sandbox.database.execute("update generation_sessions set error_message = 'old'")
    functions.start()
    assert functions.row["error_message"] is None


@pytest.mark.parametrize("name", ["user", "store"])
def test_a_start_for_somebody_else_changes_nothing(sandbox: Sandbox, name: str) -> None:
    functions = Functions(sandbox, CASES[name].make(sandbox))
    assert functions.start(owner=str(uuid4())) == {"changed": False, "status": "queued", "owner_matches": False}
    assert functions.row["status"] == "queued"
    assert functions.start() == {"changed": True, "status": "processing", "owner_matches": True, "paid": True}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("channel", ["b2c", "b2b"])
def test_an_unknown_session_changes_nothing(sandbox: Sandbox, channel: str, operation: str) -> None:
    unknown = Queued(channel, str(uuid4()), "req", str(uuid4()), {})
    answer = Functions(sandbox, unknown)(operation)
    assert (answer["changed"], answer["status"], answer.get("owner_matches")) == (False, None, None)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_session_of_the_other_channel_is_unknown(sandbox: Sandbox, operation: str) -> None:
    session = sandbox.producer.b2c(push=False)
    other = Queued("b2b", session.session_id, session.request_id, session.owner_id, {})
    assert Functions(sandbox, other)(operation)["status"] is None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_unknown_channel_is_an_error(sandbox: Sandbox, operation: str) -> None:
    functions = Functions(sandbox, Queued("b2x", str(uuid4()), "req", str(uuid4()), {}))
    with pytest.raises(asyncpg.InvalidParameterValueError, match="expected b2b or b2c"):
        functions(operation)


# Who may call, and the migration itself

CALLS = {
    "start_generation": "'b2c', gen_random_uuid(), gen_random_uuid()",
    "requeue_generation": "'b2c', gen_random_uuid()",
    "complete_generation": "'b2c', gen_random_uuid(), 'url', 1, 1, 1, 1",
    "fail_generation": "'b2c', gen_random_uuid(), 'Sorry'",
    "wearon_lock_session": "'b2c', gen_random_uuid()",
    "wearon_user_ledger": "gen_random_uuid(), gen_random_uuid()",
    "wearon_store_ledger": "'{}'",
    "wearon_ledger": "'b2c', '{}'",
    "wearon_end_session": "'b2c', gen_random_uuid(), 'Sorry', 1",
    "wearon_release_deduction": "'{}'",
    "wearon_refund": "'b2c', '{}', true",
    "wearon_worker_functions": "",
}


def _call_as(sandbox: Sandbox, role: str, function: str) -> None:
    sandbox.database.execute(f"begin; set local role {role}; select {function}({CALLS[function]}); commit")


@pytest.mark.parametrize("function", CALLS)
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_the_browser_may_not_call(sandbox: Sandbox, role: str, function: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=function):
        _call_as(sandbox, role, function)


@pytest.mark.parametrize("function", CALLS)
def test_the_service_role_may_call(sandbox: Sandbox, function: str) -> None:
    _call_as(sandbox, "service_role", function)


def test_the_migration_can_be_applied_again(sandbox: Sandbox) -> None:
    def functions() -> list[dict[str, Any]]:
        return sandbox.database.fetch(
            "select p.oid::regprocedure::text as name, proacl::text from pg_proc p "
            "where pronamespace = 'public'::regnamespace order by 1"
        )

    before = functions()
    sandbox.database.apply(MIGRATION)
    assert functions() == before


def test_the_installed_functions_are_those_that_the_worker_calls(sandbox: Sandbox) -> None:
    installed = sandbox.database.value("select wearon_worker_functions()")
    assert installed["version"] == MIGRATION_VERSION
    assert SIGNATURES.items() <= installed["functions"].items()
