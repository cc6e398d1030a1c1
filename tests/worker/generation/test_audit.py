"""`wearon-worker audit` against real books: what it calls right, wrong, and not its business."""

import json
import os
import re
import threading
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued
from worker.cli.audit import command
from worker.generation import keys
from worker.generation.audit import ledger
from worker.generation.audit.kinds import UNMATCHED, WRONG

NOTE = "Refund: try-on failed (session={})"


class Books:
    """A small shop: sessions of every kind and end, and the audit over them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.database = sandbox.database
        self.producer = sandbox.producer

    def completed(self, session: Queued) -> Queued:
        self.sql("select start_generation($1, $2, $3)", session.channel, session.session_id, session.owner_id)
        self.sql("select complete_generation($1, $2, 'url', 1, 1, 0.1, 1)", session.channel, session.session_id)
        return session

    def failed(self, session: Queued) -> Queued:
        self.sql("select fail_generation($1, $2, 'sorry')", session.channel, session.session_id)
        return session

    def b2c(self, user: str | None = None) -> Queued:
        return self.producer.b2c(user, push=False)

    def b2b(self, store: str | None = None, **options: Any) -> Queued:
        return self.producer.b2b(store, push=False, **options)

    def shopper(self, email: str = "Ann@Example.com") -> Queued:
        store = self.producer.store()
        return self.b2b(store, paid_by="shopper", shopper_email=self.producer.shopper(store, email))

    def set(self, session: Queued, **columns: object) -> None:
        table = "generation_sessions" if session.channel == "b2c" else "store_generation_sessions"
        for column, value in columns.items():
            self.sql(f"update {table} set {column} = $2 where id = $1", session.session_id, value)

    def delete(self, session: Queued) -> None:
        self.sql("delete from generation_sessions where id = $1", session.session_id)
        self.sql("delete from store_generation_sessions where id = $1", session.session_id)

    def age(self, session: Queued, **ago: float) -> None:
        table = "generation_sessions" if session.channel == "b2c" else "store_generation_sessions"
        self.sql(
            f"update {table} set created_at = now() - $2::interval where id = $1", session.session_id, timedelta(**ago)
        )

    def refund_user(self, session: Queued, text: str, credits: int = 1) -> None:
        self.sql("select refund_credits($1, $2, $3)", session.owner_id, credits, text)

    def refund_store(self, session: Queued, credits: int = 1) -> None:
        self.sql("select refund_store_credits($1, $2, $3, 'by hand')", session.owner_id, credits, session.request_id)

    def sql(self, statement: str, *arguments: object) -> None:
        self.database.execute(statement, *arguments)

    def audit(self) -> dict[str, Any]:
        result = CliRunner().invoke(command, ["--json"], env=self.sandbox.env())
        report: dict[str, Any] = json.loads(result.stdout)
        assert result.exit_code == report["exit_code"]
        return report

    def wrong(self) -> list[tuple[str, str | None]]:
        """Kind and session of everything that is wrong."""
        return sorted(
            ((finding["kind"], finding["session_id"]) for finding in self.audit()["wrong"]),
            key=lambda found: (found[0], found[1] or ""),
        )

    def unmatched(self) -> dict[str, int]:
        """Lines that could not be matched, in books that are right."""
        report = self.audit()
        assert report["right"], report["wrong"]
        return {note["kind"]: note["count"] for note in report["unmatched"]}


@pytest.fixture
def books(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Books:
    monkeypatch.setattr(ledger, "PAUSE_SECONDS", 0.0)
    return Books(sandbox)


# What is right


def test_an_empty_database_is_right(books: Books) -> None:
    assert books.audit()["right"]


def test_every_way_to_pay_and_to_end_adds_up(books: Books) -> None:
    for session in (books.b2c(), books.b2b(), books.b2b(shopper_email="ann@example.com"), books.shopper()):
        books.completed(session)
    for session in (books.b2c(), books.b2c(), books.b2b(), books.shopper()):
        books.failed(session)
    books.b2c()
    books.completed(books.b2b(paid_by="overage"))

    report = books.audit()
    assert report["right"]
    assert report["drift"] == 0
    assert report["unmatched"] == [
        {"kind": "opening_balance", "count": 2, "why": UNMATCHED["opening_balance"]}  # shoppers buy without a line
    ]
    assert report["totals"] == [
        {"payer": "shopper", "accounts": 2, "deducted": 2, "refunded": 1},
        {"payer": "store", "accounts": 6, "deducted": 3, "refunded": 1},
        {"payer": "user", "accounts": 4, "deducted": 4, "refunded": 2},
    ]


def test_credits_that_a_store_passes_on_to_a_shopper_are_a_deduction_without_a_session(books: Books) -> None:
    store = books.producer.store()
    books.sql("select deduct_store_credits($1, 10, 'order 1', 'Shopper credit purchase')", store)
    books.producer.shopper(store, balance=10)
    assert books.unmatched() == {"opening_balance": 1}


def test_a_failed_overage_session_is_right_and_to_be_refunded_by_hand(books: Books) -> None:
    session = books.failed(books.b2b(paid_by="overage"))
    report = books.audit()
    assert report["right"]
    assert [(todo["kind"], todo["session_id"]) for todo in report["by_hand"]] == [
        ("overage_failed", session.session_id)
    ]
    books.refund_store(session)
    assert books.audit()["by_hand"] == []


def test_a_session_that_cost_nothing_needs_no_refund(books: Books) -> None:
    session = books.b2c()
    books.set(session, credits_used=0, status="failed")
    books.refund_user(session, "The session was free after all")
    assert books.unmatched() == {"refund_without_session_id": 1}


# What is wrong


def test_failed_and_not_refunded_is_wrong(books: Books) -> None:
    sessions = [books.b2c(), books.b2b(), books.shopper()]
    for session in sessions:
        books.set(session, status="failed")
    assert set(books.wrong()) == {("failed_not_refunded", session.session_id) for session in sessions}


def test_completed_and_refunded_is_wrong(books: Books) -> None:
    user, store = books.completed(books.b2c()), books.completed(books.b2b())
    books.refund_user(user, NOTE.format(user.session_id))
    books.refund_store(store)
    assert set(books.wrong()) == {
        ("completed_and_refunded", user.session_id),
        ("completed_and_refunded", store.session_id),
    }


def test_a_failed_session_that_was_completed_afterwards_is_wrong(books: Books) -> None:
    sessions = [books.failed(books.b2c()), books.failed(books.b2b()), books.failed(books.shopper())]
    for session in sessions:
        books.set(session, status="completed")
    assert set(books.wrong()) == {("completed_and_refunded", session.session_id) for session in sessions}


def test_a_second_refund_that_names_the_session_is_wrong(books: Books) -> None:
    session = books.failed(books.b2c())
    books.refund_user(session, NOTE.format(session.session_id))
    assert books.wrong() == [("refunded_twice", session.session_id)]


def test_a_second_refund_by_somebody_else_is_wrong(books: Books) -> None:
    session = books.failed(books.b2c())
    books.refund_user(session, "Queue was not available")
    report = books.audit()
    assert [(finding["kind"], finding["owner_id"]) for finding in report["wrong"]] == [
        ("refund_unexplained", session.owner_id)
    ]
    assert report["drift"] == 1


def test_a_refund_of_a_completed_session_that_names_no_session_is_wrong(books: Books) -> None:
    books.refund_user(books.completed(books.b2c()), "Sorry")
    assert books.wrong() == [("refund_unexplained", None)]


def test_a_refund_that_names_a_session_that_never_was_is_wrong(books: Books) -> None:
    session = books.failed(books.b2c())
    books.refund_user(session, NOTE.format(uuid4()))
    assert books.wrong() == [("refund_unexplained", None)]


def test_a_store_refund_without_deduction_and_session_is_wrong(books: Books) -> None:
    store = books.producer.store()
    books.sql("select refund_store_credits($1, 1, 'req_unknown', '')", store)
    assert books.wrong() == [("refund_unexplained", None)]


def test_a_refund_of_another_amount_is_wrong(books: Books) -> None:
    user, store = books.b2c(), books.b2b()
    for session in (user, store):
        books.set(session, status="failed")
    books.refund_user(user, NOTE.format(user.session_id), credits=3)
    books.refund_store(store, credits=2)
    report = books.audit()
    assert {finding["kind"] for finding in report["wrong"]} == {"refunded_wrong_amount"}
    assert report["drift"] == 2 + 1


def test_a_refund_to_another_user_is_wrong(books: Books) -> None:
    session, other = books.b2c(), books.completed(books.b2c())
    books.set(session, status="failed")
    books.refund_user(other, NOTE.format(session.session_id))
    (finding,) = books.audit()["wrong"]
    assert (finding["kind"], finding["owner_id"]) == ("refunded_to_another", other.owner_id)
    assert (finding["session_id"], session.owner_id in finding["detail"]) == (session.session_id, True)


def test_a_refund_to_a_shopper_when_the_store_paid_is_wrong(books: Books) -> None:
    store = books.producer.store()
    email = books.producer.shopper(store)
    session = books.b2b(store, shopper_email=email)
    books.set(session, status="failed")
    books.sql("select refund_store_shopper_credits($1, $2, 1, $3, '')", store, email, session.request_id)
    assert books.wrong() == [("refunded_to_another", session.session_id)]


def test_a_refunded_session_that_is_still_open_is_wrong(books: Books) -> None:
    user, store = books.b2c(), books.b2b()
    books.refund_user(user, NOTE.format(user.session_id))
    books.refund_store(store)
    assert set(books.wrong()) == {("open_and_refunded", user.session_id), ("open_and_refunded", store.session_id)}


# Any history

KINDS = st.sampled_from(["b2c", "b2b", "shopper"])
ENDS = st.sampled_from(["completed", "failed", "open"])
ONE_BY_ONE = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def ended(books: Books, kind: str, end: str) -> Queued:
    """A session of that kind with that end."""
    session: Queued = getattr(books, kind)()
    return session if end == "open" else getattr(books, end)(session)


@ONE_BY_ONE
@given(history=st.lists(st.tuples(KINDS, ENDS), max_size=8))
def test_whatever_the_worker_did_is_right_and_adds_up_to_what_the_triggers_saw(
    books: Books, history: list[tuple[str, str]]
) -> None:
    books.sandbox.reset()
    for kind, end in history:
        ended(books, kind, end)
    report = books.audit()
    assert report["right"]
    seen = books.database.row(
        "select coalesce(-sum(delta) filter (where delta < 0), 0) as deducted, "
        "coalesce(sum(delta) filter (where delta > 0 and old_balance > 0), 0) as refunded from witness.balance_changes"
    )
    assert {name: sum(total[name] for total in report["totals"]) for name in ("deducted", "refunded")} == seen


@ONE_BY_ONE
@given(
    history=st.lists(st.tuples(KINDS, ENDS), max_size=4),
    kind=KINDS,
    fault=st.sampled_from(["completed>failed", "failed>completed", "failed>open", "refund lost"]),
)
def test_one_wrong_credit_is_found_in_any_history(
    books: Books, history: list[tuple[str, str]], kind: str, fault: str
) -> None:
    books.sandbox.reset()
    before, _, after = fault.partition(">")
    session = ended(books, kind, before if after else "failed")
    for each in history:
        ended(books, *each)
    if after:
        books.set(session, status="queued" if after == "open" else after)
    else:
        books.sql("delete from credit_transactions where user_id = $1 and type = 'refund'", session.owner_id)
        books.sql("delete from store_credit_transactions where store_id = $1 and type = 'refund'", session.owner_id)
    report = books.audit()
    if (kind, before, after) == ("b2c", "completed", "failed"):
        # Users may write their rows; the ledger shows the delivery.
        assert report["right"]
        assert {"row_rewritten": 1}.items() <= {it["kind"]: it["count"] for it in report["unmatched"]}.items()
        return
    sessions = [finding["session_id"] for finding in report["wrong"] if "balance" not in finding["kind"]]
    assert sessions == [session.session_id]
    assert report["drift"] == (1 if after else 2)  # a lost line is a wrong balance, too


# What is stuck


def test_an_open_session_that_nobody_works_on_is_stuck(books: Books) -> None:
    session = books.b2b()
    books.age(session, minutes=10)
    (finding,) = books.audit()["wrong"]
    assert (finding["kind"], finding["session_id"]) == ("stuck", session.session_id)
    assert finding["detail"] == "queued for 10 min, nobody works on it"


def test_a_session_that_was_just_inserted_is_not_stuck(books: Books) -> None:
    books.age(books.b2c(), minutes=4)
    assert books.wrong() == []


def test_queued_claimed_leased_and_settled_sessions_are_not_stuck(books: Books) -> None:
    redis = books.sandbox.redis
    queued, claimed, leased, settled = (books.b2c() for _ in range(4))
    for session in (queued, claimed, leased, settled):
        books.age(session, minutes=30)
    books.producer.push(queued.message)
    redis.sadd(keys.INSTANCES, "a")
    redis.lpush(keys.claimed("a"), json.dumps(claimed.message))
    redis.set(keys.lease(leased.session_id), "a")
    redis.hset(keys.SETTLEMENTS, settled.session_id, "{}")
    assert books.wrong() == []


def test_even_a_queued_session_is_stuck_after_an_hour(books: Books) -> None:
    session = books.b2c()
    books.producer.push(session.message)
    books.age(session, minutes=61)
    (finding,) = books.audit()["wrong"]
    assert finding["detail"] == "queued for 61 min, it is still accounted for"


def test_without_redis_only_the_age_tells_what_is_stuck(books: Books) -> None:
    young, old = books.b2c(), books.b2c()
    books.age(young, minutes=59)
    books.age(old, minutes=61)
    books.sandbox.valkey.stop()
    report = books.audit()
    assert not report["redis_read"]
    assert [finding["session_id"] for finding in report["wrong"]] == [old.session_id]


def test_redis_is_not_blamed_when_the_database_does_not_tell_the_sessions_of_the_region(books: Books) -> None:
    books.sandbox.gateway.fault("unavailable", on="rpc/wearon_region_open", status=503)
    result = CliRunner().invoke(command, [], env=books.sandbox.env(REGION="eu"))
    assert "judged by their age alone: Redis, or with REGION the database, did not answer." in result.stdout


# History that this worker never touched


def test_refunds_of_others_are_matched_by_number(books: Books) -> None:
    user = books.producer.user()
    for _ in range(3):
        session = books.b2c(user)
        books.set(session, status="failed")
        books.refund_user(session, "Refund for failed generation")
    assert books.unmatched() == {"refund_without_session_id": 3}


def test_one_of_two_old_failures_without_refund_names_both(books: Books) -> None:
    user = books.producer.user()
    sessions = [books.b2c(user), books.b2c(user)]
    for session in sessions:
        books.set(session, status="failed")
    books.refund_user(sessions[0], "Refund for failed generation")
    (finding,) = books.audit()["wrong"]
    assert (finding["kind"], finding["owner_id"], finding["credits"]) == ("failed_not_refunded", user, 1)
    assert all(session.session_id in finding["detail"] for session in sessions)


def test_the_refund_of_one_user_does_not_cover_another(books: Books) -> None:
    first, second = books.b2c(), books.completed(books.b2c())
    books.set(first, status="failed")
    books.refund_user(second, "Refund")
    assert set(books.wrong()) == {("failed_not_refunded", first.session_id), ("refund_unexplained", None)}


def test_deleted_sessions_are_named_as_unmatched(books: Books) -> None:
    for session in (books.completed(books.b2c()), books.completed(books.b2b())):
        books.delete(session)
    for session in (books.failed(books.b2c()), books.failed(books.shopper())):
        books.delete(session)
    # Lines of stores are matched from their sessions; a pair without one is as right as a pair with one.
    assert books.unmatched() == {"deduction_without_session": 1, "session_gone": 1, "opening_balance": 1}


def test_sessions_from_before_the_ledger_are_named_as_unmatched(books: Books) -> None:
    sessions = [books.completed(books.b2c()), books.b2c(), books.completed(books.b2b()), books.b2b()]
    for session in (sessions[1], sessions[3]):
        books.set(session, status="failed")
    books.sql("delete from credit_transactions")
    books.sql("delete from store_credit_transactions")
    report = books.audit()
    assert report["right"]
    notes = {note["kind"]: note["count"] for note in report["unmatched"]}
    assert notes == {"session_without_deduction": 3, "opening_balance": 4}


def test_store_sessions_without_request_id_are_matched_by_number(books: Books) -> None:
    store = books.producer.store()
    for status in ("completed", "failed"):
        session = books.b2b(store)
        books.set(session, request_id=None, status=status)
    books.sql("update store_credit_transactions set request_id = null where type = 'deduction'")
    assert [kind for kind, _ in books.wrong()] == ["failed_not_refunded"]
    books.sql("select refund_store_credits($1, 1, null, 'Refund')", store)
    assert books.wrong() == []


def test_a_second_session_of_the_same_request_uses_the_same_credit(books: Books) -> None:
    session = books.b2b()
    books.set(session, status="failed")
    books.sql(
        "insert into store_generation_sessions (store_id, request_id, model_image_url, prompt_system, status) "
        "values ($1, $2, 'url', '', 'completed')",
        session.owner_id,
        session.request_id,
    )
    assert books.wrong() == []


def test_the_sign_of_amounts_does_not_matter(books: Books) -> None:
    books.completed(books.b2c())
    books.failed(books.b2b())
    books.sql("update credit_transactions set amount = abs(amount)")
    books.sql("update store_credit_transactions set amount = abs(amount)")
    assert books.unmatched() == {}


# Balances


def test_a_balance_that_was_changed_without_a_line_is_wrong(books: Books) -> None:
    user, shopper = books.completed(books.b2c()), books.completed(books.shopper())
    store = books.completed(books.b2b())
    books.sql("update user_credits set balance = balance + 5 where user_id = $1", user.owner_id)
    books.sql("update store_credits set balance = balance - 2 where store_id = $1", store.owner_id)
    books.sql("update store_shopper_credits set balance = balance + 1 where store_id = $1", shopper.owner_id)
    report = books.audit()
    assert {finding["kind"]: (finding["owner_id"], finding["credits"]) for finding in report["wrong"]} == {
        "user_balance_differs": (user.owner_id, 5),
        "store_balance_differs": (store.owner_id, 2),
        "shopper_balance_differs": (shopper.owner_id, 1),
    }
    assert "example.com" not in json.dumps(report)  # no address in a report


def test_a_balance_row_that_is_gone_is_wrong(books: Books) -> None:
    session = books.b2c()
    books.sql("delete from user_credits where user_id = $1", session.owner_id)
    assert books.wrong() == [("user_balance_differs", None)]


def test_accounts_that_are_older_than_the_ledger_are_right_and_named(books: Books) -> None:
    spent, unused = books.completed(books.b2c()), books.producer.user()
    books.sql("delete from credit_transactions where type = 'signup_bonus'")
    books.sql("delete from credit_transactions where user_id = $1", unused)
    books.sql("update user_credits set total_earned = null, total_spent = null where user_id = $1", spent.owner_id)
    store = books.producer.store()
    books.sql("delete from store_credit_transactions where store_id = $1", store)
    assert books.unmatched() == {"opening_balance": 3}


# Reading


def test_a_session_that_ends_while_the_audit_reads_is_not_wrong(books: Books) -> None:
    sessions = [books.b2c(), books.b2b()]
    books.sandbox.gateway.fault("slow", on="table/*generation_sessions", delay=1.0, times=2)
    ending = threading.Timer(0.5, lambda: [books.failed(session) for session in sessions])
    ending.start()
    begun = time.monotonic()
    assert books.wrong() == []
    ending.join()
    assert time.monotonic() - begun > 1


# The command


def test_people_read_sums_findings_and_a_verdict(books: Books) -> None:
    session = books.b2c()
    books.set(session, status="failed")
    books.failed(books.b2b(paid_by="overage"))
    result = CliRunner().invoke(command, [], env=books.sandbox.env())
    lines = result.stdout.splitlines()
    assert result.exit_code == WRONG["failed_not_refunded"].exit_code
    assert re.search(r"user +1 +1 +0 +1", result.stdout)
    wrong = lines.index(
        "wrong  1 x failed_not_refunded: failed, and the credit did not go back; "
        "refund it, with the session's id in the text"
    )
    assert lines[wrong + 1] == f"    b2c owner {session.owner_id} session {session.session_id}"
    assert any(line.startswith("by hand  1 x overage_failed") for line in lines)
    verdict = "The books are wrong: 1 findings, 1 credits. 4 ledger lines, 2 sessions, everything proven in"
    assert lines[-1].startswith(verdict)


def test_the_json_keys_are_stable(books: Books) -> None:
    books.set(books.b2c(), status="failed")
    report = books.audit()
    assert set(report) == {
        *("right", "exit_code", "drift", "full", "sessions", "transactions", "seconds", "redis_read"),
        *("counts", "totals", "wrong", "by_hand", "unmatched"),
    }
    assert set(report["wrong"][0]) == {
        *("kind", "meaning", "remedy", "channel", "owner_id", "credits"),
        *("session_id", "request_id", "line_id", "detail"),
    }


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"SUPABASE_SERVICE_ROLE_KEY": "wrong"}, ": Invalid API key; check SUPABASE_URL, and that SUPABASE_SERVICE_RO"),
        ({"SUPABASE_URL": "http://127.0.0.1:9"}, "wearon_audit_step: no connection (ConnectError); check SUPABASE_URL"),
        ({"SUPABASE_URL": ""}, "SUPABASE_URL is not set"),
    ],
)
def test_books_that_cannot_be_read_are_one_line_and_exit_code_2(
    books: Books, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], line: str
) -> None:
    monkeypatch.setattr(ledger, "_PATIENCE_SECONDS", 0.1)
    result = CliRunner().invoke(command, ["--json"], env={**os.environ, **books.sandbox.env(**environment)})
    assert result.exit_code == 2
    assert result.stdout == ""
    assert line in result.stderr
    assert result.stderr.count("\n") == 1
