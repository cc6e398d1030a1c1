"""The outbox in a real PostgreSQL: who sees what, what a claim takes, and what goes with a store."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.sandbox import Sandbox
from tests.worker.webhooks.world import SECRET, complete, deliveries, endpoint, fail


def claim(sandbox: Sandbox, limit: int = 10, per_endpoint: int = 10) -> dict[str, Any]:
    answer: dict[str, Any] = sandbox.database.value(
        "select wearon_webhook_claim($1, $2, $3, 60)", str(uuid4()), limit, per_endpoint
    )
    return answer


def rows_as(sandbox: Sandbox, user: str, table: str) -> int:
    """Number of rows of the table that a signed-in user sees."""
    claims = json.dumps({"role": "authenticated", "sub": user})
    count = f"do $$ begin raise exception 'rows %', (select count(*) from {table}); end $$"
    with pytest.raises(asyncpg.RaiseError) as raised:
        sandbox.database.execute(
            f"begin; set local role authenticated; set local request.jwt.claims = '{claims}'; {count}; commit"
        )
    return int(str(raised.value).removeprefix("rows "))


def owned(sandbox: Sandbox) -> tuple[str, str]:
    """A store with an owner; -> both ids."""
    owner, store = str(uuid4()), sandbox.producer.store()
    sandbox.database.execute("update stores set owner_user_id = $2 where id = $1", store, owner)
    return store, owner


@pytest.mark.parametrize("table", ["store_webhook_endpoints", "store_webhook_deliveries"])
def test_an_owner_sees_the_own_store_alone(sandbox: Sandbox, table: str) -> None:
    (mine, me), (other, _) = owned(sandbox), owned(sandbox)
    for store in (mine, other):
        endpoint(sandbox, "https://partner.example/", store)
        complete(sandbox, store)
    assert rows_as(sandbox, me, table) == 1
    assert rows_as(sandbox, str(uuid4()), table) == 0


def test_an_owners_stores_are_looked_up_once_for_all_rows(sandbox: Sandbox) -> None:
    """Supabase ends a statement after 8 s, in which a look-up for each row gets through less than a week's rows."""
    explain = "for line in explain select from store_webhook_deliveries loop plan := plan || line; end loop"
    block = f"do $$ declare line text; plan text := ''; begin {explain}; raise exception '%', plan; end $$"
    with pytest.raises(asyncpg.RaiseError, match="hashed SubPlan"):
        sandbox.database.execute(f"begin; set local role authenticated; {block}; commit")


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("authenticated", "select from wearon.webhook_secrets"),
        ("authenticated", "update store_webhook_endpoints set url = 'https://evil.example/'"),
        (
            "authenticated",
            "insert into store_webhook_endpoints (store_id, url) values (gen_random_uuid(), 'https://x')",
        ),
        ("authenticated", "delete from store_webhook_deliveries"),
        ("authenticated", "select wearon_webhook_list()"),
        ("anon", "select from store_webhook_endpoints"),
        ("anon", "select from store_webhook_deliveries"),
        ("anon", "select wearon_webhook_claim(gen_random_uuid(), 1, 1, 60)"),
    ],
)
def test_the_browser_reads_no_secret_and_writes_nothing(sandbox: Sandbox, role: str, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        sandbox.database.execute(f"begin; set local role {role}; {statement}; commit")


def test_a_store_takes_its_endpoints_secrets_and_callbacks_along(sandbox: Sandbox) -> None:
    store, _ = endpoint(sandbox, "https://partner.example/")
    complete(sandbox, store)
    sandbox.database.execute("delete from stores where id = $1", store)
    for table in ("store_webhook_endpoints", "wearon.webhook_secrets", "store_webhook_deliveries"):
        assert sandbox.database.value(f"select count(*) from {table}") == 0


def test_an_endpoint_hears_the_types_that_it_asked_for(sandbox: Sandbox) -> None:
    store, picky = endpoint(sandbox, "https://partner.example/", types=["generation_moderation_blocked"])
    complete(sandbox, store)
    fail(sandbox, store)
    fail(sandbox, store, "moderation_blocked")
    assert [each["type"] for each in deliveries(sandbox, picky)] == ["generation_moderation_blocked"]


def test_a_claim_takes_each_session_in_its_order_and_no_delivery_twice(sandbox: Sandbox) -> None:
    store, _ = endpoint(sandbox, "https://partner.example/")
    sessions = {fail(sandbox, store).session_id for _ in range(3)}
    first = claim(sandbox)["deliveries"]
    assert {each["data"]["session_id"] for each in first} == sessions
    assert {each["type"] for each in first} == {"generation_failed"}
    assert first[0]["secrets"] == [SECRET]
    assert claim(sandbox)["deliveries"] == []


def test_a_claim_leaves_room_for_other_endpoints(sandbox: Sandbox) -> None:
    busy, _ = endpoint(sandbox, "https://busy.example/")
    for _ in range(5):
        complete(sandbox, busy)
    other, _ = endpoint(sandbox, "https://other.example/")
    complete(sandbox, other)
    taken = [each["url"] for each in claim(sandbox, per_endpoint=2)["deliveries"]]
    assert sorted(taken) == ["https://busy.example/"] * 2 + ["https://other.example/"]
    assert claim(sandbox, per_endpoint=2)["deliveries"] == []


def test_an_endpoint_that_fails_again_and_again_is_left_alone_for_a_while(sandbox: Sandbox) -> None:
    store, _ = endpoint(sandbox, "https://partner.example/")
    for _ in range(4):
        complete(sandbox, store)
    for _ in range(3):
        lease = str(uuid4())
        (taken,) = sandbox.database.value("select wearon_webhook_claim($1, 1, 1, 60)", lease)["deliveries"]
        result = {"id": taken["id"], "ok": False, "status": 500, "error": "500", "retry_seconds": 3600}
        sandbox.database.value("select wearon_webhook_report($1, $2)", lease, [result])
    assert claim(sandbox)["deliveries"] == []
    state = sandbox.database.value("select wearon_webhook_state()")
    assert (state["failing"], state["overdue_seconds"]) == (1, 0)


def test_an_old_picture_has_no_address_any_more(sandbox: Sandbox) -> None:
    store, _ = endpoint(sandbox, "https://partner.example/")
    complete(sandbox, store)
    sandbox.database.execute("update store_generation_sessions set generated_image_url = 'expired'")
    (taken,) = claim(sandbox)["deliveries"]
    assert taken["data"]["image_url"] is None


def test_a_late_report_of_a_failure_changes_nothing(sandbox: Sandbox) -> None:
    store, waiting = endpoint(sandbox, "https://partner.example/")
    complete(sandbox, store)
    (taken,) = claim(sandbox)["deliveries"]
    result = {"id": taken["id"], "ok": False, "status": 500, "error": "500", "retry_seconds": None}
    sandbox.database.value("select wearon_webhook_report($1, $2)", str(uuid4()), [result])
    (row,) = deliveries(sandbox, waiting)
    assert row["given_up_at"] is None


def test_a_result_and_its_callback_are_one_transaction(sandbox: Sandbox) -> None:
    store, waiting = endpoint(sandbox, "https://partner.example/")
    table = "alter table store_webhook_deliveries"
    sandbox.database.execute(f"{table} add constraint broken check (type = 'none') not valid")
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            complete(sandbox, store)
    finally:
        sandbox.database.execute(f"{table} drop constraint broken")
    status = sandbox.database.value("select status from store_generation_sessions where store_id = $1", store)
    assert status == "processing"
    assert deliveries(sandbox, waiting) == []


def test_old_deliveries_are_trimmed_and_forgotten_endpoints_given_up(sandbox: Sandbox) -> None:
    store, waiting = endpoint(sandbox, "https://partner.example/")
    for age in ("1 hour", "4 days", "8 days"):
        complete(sandbox, store)
        sandbox.database.execute(
            "update store_webhook_deliveries set queued_at = now() - $1::text::interval where queued_at = "
            "(select max(queued_at) from store_webhook_deliveries)",
            age,
        )
    assert sandbox.database.value("select wearon_webhook_trim()") == {"given_up": 2, "deleted": 1, "forgotten": 0}
    assert [bool(each["given_up_at"]) for each in deliveries(sandbox, waiting)] == [False, True]


def test_a_delivery_that_was_queued_while_its_endpoint_was_disabled_counts_as_no_delay(sandbox: Sandbox) -> None:
    store, gone = endpoint(sandbox, "https://partner.example/")
    complete(sandbox, store)
    sandbox.database.execute("update store_webhook_deliveries set queued_at = '2020-01-01', due_at = '2020-01-01'")
    assert sandbox.database.value("select wearon_webhook_state()")["overdue_seconds"] > 0
    # Not by the function that gives up what waits: that one ran before the delivery was there.
    sandbox.database.execute("update store_webhook_endpoints set disabled_at = now() where id = $1", gone)
    state = sandbox.database.value("select wearon_webhook_state()")
    assert (state["oldest_seconds"], state["overdue_seconds"]) == (0, 0)


def test_an_address_that_is_added_twice_at_once_gets_one_endpoint(sandbox: Sandbox) -> None:
    add = "select wearon_webhook_add($1, 'https://partner.example/', null, $2)"
    for _ in range(5):
        store = sandbox.producer.store()
        with ThreadPoolExecutor(4) as callers:
            calls = [callers.submit(sandbox.database.value, add, store, f"whsec_{number}") for number in range(4)]
        assert sorted("id" in call.result() for call in calls) == [False, False, False, True]
