"""The SQL function that begins the rows of a manifest: a credit and its session, both or neither."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.sandbox import Sandbox
from worker.generation.bulk.manifest import request_id_of, session_id_of

PERSON = "https://photos.example/person.jpg"


def row(store: str, number: int, **changed: Any) -> dict[str, Any]:
    session, request = session_id_of(UUID(store), "one", number), request_id_of("one", number)
    return {"id": str(session), "request_id": request, "model_image_url": PERSON, "prompt_user": "", **changed}


def begin(sandbox: Sandbox, store: str, *rows: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = sandbox.database.value("select wearon_bulk_begin($1, $2)", store, list(rows))
    return answer


def lines(sandbox: Sandbox, store: str) -> list[tuple[str, str]]:
    return [(line["type"], line["request_id"]) for line in sandbox.ledger(store) if line["type"] != "purchase"]


def test_a_row_that_the_table_refuses_takes_no_credit_and_neither_do_those_before_it(sandbox: Sandbox) -> None:
    store = sandbox.producer.store(10)
    with pytest.raises(asyncpg.NotNullViolationError):
        begin(sandbox, store, row(store, 1), row(store, 2, model_image_url=None))
    assert (lines(sandbox, store), sandbox.balance(store)) == ([], 10)


def test_rows_are_paid_for_in_their_order_as_far_as_the_credits_go_and_once(sandbox: Sandbox) -> None:
    store = sandbox.producer.store(2)
    rows = [row(store, number) for number in (2, 1, 3)]
    begun = {"used": 0, "out_of_credit": True, "sessions": {each["id"]: "queued" for each in rows[:2]}}
    for _ in range(2):
        assert begin(sandbox, store, *rows) == begun
    assert lines(sandbox, store) == [("deduction", "bulk_one_2"), ("deduction", "bulk_one_1")]
    assert sandbox.balance(store) == 0


def test_two_calls_at_once_wait_for_each_other_whatever_their_order(sandbox: Sandbox) -> None:
    store = sandbox.producer.store(100)
    rows = [row(store, number) for number in range(1, 31)]
    with ThreadPoolExecutor(2) as callers:
        both = list(callers.map(lambda order: begin(sandbox, store, *order), (rows, rows[::-1])))
    assert both == [{"used": 0, "out_of_credit": False, "sessions": {each["id"]: "queued" for each in rows}}] * 2
    assert sandbox.balance(store) == 70


def test_a_request_id_that_a_client_has_used_pays_for_no_row(sandbox: Sandbox) -> None:
    store = sandbox.producer.store(10)
    sandbox.database.execute("select deduct_store_credits($1, 1, 'bulk_one_1', 'Try-on')", store)
    assert begin(sandbox, store, row(store, 1)) == {"used": 1, "out_of_credit": False, "sessions": {}}
    assert sandbox.balance(store) == 9


def test_a_row_without_a_message_that_a_sweep_fails_gives_its_credit_back(sandbox: Sandbox) -> None:
    store = sandbox.producer.store(10)
    wanted = row(store, 1)
    begin(sandbox, store, wanted)
    failed = sandbox.database.value("select fail_generation('b2b', $1, 'Sorry')", wanted["id"])
    assert (failed["refund"], sandbox.balance(store)) == ("store", 10)
    assert begin(sandbox, store, wanted)["sessions"] == {wanted["id"]: "failed"}
    assert lines(sandbox, store) == [("deduction", "bulk_one_1"), ("refund", "bulk_one_1")]


def test_a_store_without_a_balance_begins_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(asyncpg.RaiseError, match="Store credits not found"):
        begin(sandbox, str(uuid4()), row(str(uuid4()), 1))
