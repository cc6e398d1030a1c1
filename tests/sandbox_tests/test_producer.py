"""Sessions, credits and messages as the Next.js application makes them."""

import json

import pytest

from tests.sandbox import Sandbox
from tests.sandbox.producer import QUEUE, NoCreditError


def test_b2c_takes_a_credit_inserts_the_session_and_pushes(sandbox: Sandbox) -> None:
    queued = sandbox.producer.b2c(prompt="in blue")

    assert sandbox.session("b2c", queued.session_id)["status"] == "queued"
    assert [(row["type"], row["amount"]) for row in sandbox.ledger(queued.owner_id)] == [
        ("signup_bonus", 10),
        ("generation", -1),
    ]
    assert sandbox.balance(queued.owner_id) == 9
    assert json.loads(sandbox.redis.rpop(QUEUE) or "") == queued.message
    assert queued.message["request_id"].startswith("req_")
    assert "store_id" not in queued.message


def test_b2b_paid_by_the_store_leaves_a_deduction_with_the_request_id(sandbox: Sandbox) -> None:
    queued = sandbox.producer.b2b(shopper_email="someone@example.com")

    last = sandbox.ledger(queued.owner_id)[-1]
    assert (last["type"], last["amount"], last["request_id"]) == ("deduction", -1, queued.request_id)
    assert "shopper=" not in last["description"]
    assert sandbox.session("b2b", queued.session_id)["shopper_email"] == "someone@example.com"


def test_b2b_paid_by_the_shopper_says_so_in_the_ledger(sandbox: Sandbox) -> None:
    store = sandbox.producer.store(balance=5)
    email = sandbox.producer.shopper(store, "Ann@Example.com", balance=2)
    queued = sandbox.producer.b2b(store, paid_by="shopper", shopper_email=email)

    assert sandbox.ledger(store)[-1]["description"].endswith("(shopper=ann@example.com)")
    assert sandbox.balance(store, email) == 1
    assert sandbox.balance(store) == 5
    assert sandbox.session("b2b", queued.session_id)["shopper_email"] == "Ann@Example.com"


def test_overage_moves_no_balance(sandbox: Sandbox) -> None:
    store = sandbox.producer.store(balance=0)
    sandbox.producer.b2b(store, paid_by="overage")

    assert [row["type"] for row in sandbox.ledger(store)] == ["purchase", "overage"]
    assert sandbox.balance_changes(store) == []


def test_an_empty_balance_is_refused(sandbox: Sandbox) -> None:
    user = sandbox.producer.user(balance=1)
    sandbox.producer.b2c(user)

    with pytest.raises(NoCreditError):
        sandbox.producer.b2c(user)
    assert sandbox.redis.llen(QUEUE) == 1


def test_a_second_store_refund_violates_the_unique_constraint(sandbox: Sandbox) -> None:
    queued = sandbox.producer.b2b()
    refund = "select refund_store_credits($1, 1, $2, 'Refund')"
    sandbox.database.execute(refund, queued.owner_id, queued.request_id)

    with pytest.raises(Exception, match="store_credit_transactions_store_id_request_id_type_key"):
        sandbox.database.execute(refund, queued.owner_id, queued.request_id)
    assert sandbox.balance_changes(queued.owner_id) == [100, -1, 1]


def test_the_witness_sees_every_status(sandbox: Sandbox) -> None:
    queued = sandbox.producer.b2c(push=False)
    for status in ("processing", "processing", "completed"):
        sandbox.database.execute("update generation_sessions set status = $1 where id = $2", status, queued.session_id)

    assert sandbox.statuses(queued.session_id) == ["queued", "processing", "completed"]
    assert sandbox.settled("b2c", queued.session_id)["status"] == "completed"


def test_session_rows_are_published_for_the_browser(sandbox: Sandbox) -> None:
    tables = sandbox.database.fetch("select tablename from pg_publication_tables where pubname = 'supabase_realtime'")
    assert {row["tablename"] for row in tables} == {"generation_sessions", "store_generation_sessions"}
