"""Events of sessions in a real PostgreSQL: once for each session, in its transaction, and never in its way."""

from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued
from tests.sandbox.sandbox import MIGRATION

FACTS = {"request_id": "req_1", "model": "gpt-image-1.5", "prompt_version": "worker-1"}
#: The app's quality boards, as they count.
BOARD = """
select (select count(*) from analytics_events where event_type = $1)
     + (select count(*) from store_analytics_events where event_type = $1)
"""


def call(sandbox: Sandbox, call: str, session: Queued, *arguments: object) -> dict[str, Any]:
    answer: dict[str, Any] = sandbox.database.value(f"select {call}", session.channel, session.session_id, *arguments)
    return answer


def complete(sandbox: Sandbox, session: Queued) -> dict[str, Any]:
    call(sandbox, "start_generation($1, $2, $3)", session, session.owner_id)
    return call(sandbox, "complete_generation($1, $2, 'https://x/a.jpg', 10, 20, 0.04, 3000, $3)", session, FACTS)


def fail(sandbox: Sandbox, session: Queued, reason: str = "edit_failed") -> dict[str, Any]:
    return call(sandbox, "fail_generation($1, $2, 'Sorry', 3000, $3)", session, {**FACTS, "reason": reason})


def events(sandbox: Sandbox, session: Queued) -> list[dict[str, Any]]:
    """Events of the session, oldest first."""
    table = "analytics_events" if session.channel == "b2c" else "store_analytics_events"
    return sandbox.database.fetch(
        f"select * from {table} where metadata ->> 'session_id' = $1 order by event_type desc", session.session_id
    )


@pytest.fixture(params=["b2c", "b2b"])
def session(sandbox: Sandbox, request: pytest.FixtureRequest) -> Queued:
    queued: Queued = getattr(sandbox.producer, request.param)(push=False)
    return queued


def test_a_picture_is_told_once_with_what_it_cost(sandbox: Sandbox, session: Queued) -> None:
    complete(sandbox, session)
    complete(sandbox, session)
    (event,) = events(sandbox, session)
    assert event["event_type"] == "generation_completed"
    assert event["user_id" if session.channel == "b2c" else "store_id"].hex == session.owner_id.replace("-", "")
    assert event["metadata"] == {
        **FACTS,
        "session_id": session.session_id,
        "processing_time_ms": 3000,
        "cost_usd": 0.04,
    }


@pytest.mark.parametrize(
    ("reason", "type"),
    [("edit_failed", "generation_failed"), ("moderation_blocked", "generation_moderation_blocked")],
)
def test_a_failure_is_told_once_and_a_stores_refund_beside_it(
    sandbox: Sandbox, session: Queued, reason: str, type: str
) -> None:
    fail(sandbox, session, reason)
    fail(sandbox, session, reason)
    refund = ["credit_refunded"] if session.channel == "b2b" else []
    assert sorted(each["event_type"] for each in events(sandbox, session)) == sorted([type, *refund])
    assert {each["metadata"]["reason"] for each in events(sandbox, session)} == {reason}


def test_the_boards_count_what_happened(sandbox: Sandbox) -> None:
    producer = sandbox.producer
    complete(sandbox, producer.b2c(push=False))
    complete(sandbox, producer.b2b(push=False))
    fail(sandbox, producer.b2c(push=False))
    for session in (producer.b2c(push=False), producer.b2b(push=False), producer.b2b(push=False)):
        fail(sandbox, session, "moderation_blocked")
    types = ("generation_completed", "generation_failed", "generation_moderation_blocked", "credit_refunded")
    assert [sandbox.database.value(BOARD, each) for each in types] == [2, 1, 3, 2]


def test_the_shoppers_address_is_in_its_own_column_alone(sandbox: Sandbox) -> None:
    store = sandbox.producer.store()
    email = sandbox.producer.shopper(store, "Ann@Example.com")
    session = sandbox.producer.b2b(store, paid_by="shopper", shopper_email=email, push=False)
    fail(sandbox, session)
    told = events(sandbox, session)
    assert [event["shopper_email"] for event in told] == [email] * 2
    assert "example.com" not in str([event["metadata"] for event in told]).lower()


def test_a_session_that_the_app_has_failed_is_told_once(sandbox: Sandbox, session: Queued) -> None:
    table = "generation_sessions" if session.channel == "b2c" else "store_generation_sessions"
    failed = "status = 'failed', error_message = 'App'"
    sandbox.database.execute(f"update {table} set {failed} where id = $1", session.session_id)
    complete(sandbox, session)
    fail(sandbox, session)
    ends = [each for each in events(sandbox, session) if each["event_type"] == "generation_failed"]
    assert [each["metadata"]["reason"] for each in ends] == ["failed_elsewhere"]


@pytest.mark.parametrize("failed", [True, False])
def test_a_late_completion_without_facts_is_told_with_its_reason(
    sandbox: Sandbox, session: Queued, failed: bool
) -> None:
    """As a worker of version 3 calls it."""
    call(sandbox, "start_generation($1, $2, $3)", session, session.owner_id)
    if failed:
        table = "generation_sessions" if session.channel == "b2c" else "store_generation_sessions"
        sandbox.database.execute(f"update {table} set status = 'failed' where id = $1", session.session_id)
    elif session.channel == "b2c":
        note = f"Stuck job recovery: session {session.session_id}"
        sandbox.database.execute("select refund_credits($1, 1, $2)", session.owner_id, note)
    else:
        sandbox.database.execute("select refund_store_credits($1, 1, $2, 'Late')", session.owner_id, session.request_id)
    call(sandbox, "complete_generation($1, $2, 'https://x/a.jpg', 10, 20, 0.04, 3000)", session)
    ends = [each["metadata"] for each in events(sandbox, session) if each["event_type"] == "generation_failed"]
    assert [each["reason"] for each in ends] == ["failed_elsewhere" if failed else "refunded_elsewhere"]


def test_a_refund_of_the_app_that_is_found_at_the_end_is_told(sandbox: Sandbox) -> None:
    session = sandbox.producer.b2b(push=False)
    call(sandbox, "start_generation($1, $2, $3)", session, session.owner_id)
    sandbox.database.execute("select refund_store_credits($1, 1, $2, 'App')", session.owner_id, session.request_id)
    complete(sandbox, session)
    assert [each["event_type"] for each in events(sandbox, session)] == ["generation_failed", "credit_refunded"]
    assert events(sandbox, session)[1]["metadata"]["refund"] == "already_refunded"


def test_an_older_worker_tells_events_without_facts(sandbox: Sandbox, session: Queued) -> None:
    call(sandbox, "fail_generation($1, $2, 'Sorry', 3000)", session)
    assert "generation_failed" in {each["event_type"] for each in events(sandbox, session)}


def test_events_and_status_are_one_transaction(sandbox: Sandbox) -> None:
    session = sandbox.producer.b2c(push=False)
    sandbox.database.execute("delete from user_credits where user_id = $1", session.owner_id)
    with pytest.raises(asyncpg.RaiseError):
        fail(sandbox, session)
    assert events(sandbox, session) == []


# A table that takes no events

#: SQLSTATE -> the change of the table, and the way back.
BREAK = {
    "42P01": ("alter table {0} rename to gone", "alter table gone rename to {0}"),
    "42703": ("alter table {0} rename metadata to gone", "alter table {0} rename gone to metadata"),
    "23514": (
        "alter table {0} add constraint none check (event_type = 'none') not valid",
        "alter table {0} drop constraint none",
    ),
    "23502": (
        "alter table {0} add needed text not null default ''; alter table {0} alter needed drop default",
        "alter table {0} drop needed",
    ),
    "23503": (
        "alter table {0} add constraint absent foreign key (id) references auth.users not valid",
        "alter table {0} drop constraint absent",
    ),
    # Only at the end of the transaction.
    "P0001": (
        "create function refuse() returns trigger language plpgsql as 'begin raise exception ''no''; end'; "
        "create constraint trigger refuse after insert on {0} deferrable initially deferred "
        "for each row execute function refuse()",
        "drop trigger refuse on {0}; drop function refuse()",
    ),
}


@pytest.fixture
def broken(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[Callable[[Queued, str], None]]:
    """A function that breaks the table of a session's events in one way."""
    undo: list[str] = []

    def break_table(session: Queued, state: str) -> None:
        table = "analytics_events" if session.channel == "b2c" else "store_analytics_events"
        change, back = BREAK[state]
        sandbox.database.execute(change.format(table))
        undo.append(back.format(table))

    yield break_table
    for statement in undo:
        sandbox.database.execute(statement)


@pytest.mark.parametrize("state", BREAK)
@pytest.mark.parametrize("end", [complete, fail], ids=["complete", "fail"])
def test_a_broken_table_holds_up_no_result_and_no_refund(
    sandbox: Sandbox,
    session: Queued,
    broken: Callable[[Queued, str], None],
    end: Callable[[Sandbox, Queued], dict[str, Any]],
    state: str,
) -> None:
    broken(session, state)
    answer = end(sandbox, session)
    assert answer["changed"]
    assert answer["events_error"].endswith(f"analytics_events: {state}")
    assert answer.get("refund") in (None, "user", "store")
    refused = sandbox.database.value("select wearon_event_examine()")
    assert [f"{table}: {state}" for table in refused] == [answer["events_error"]]


def test_examining_leaves_nothing_behind(sandbox: Sandbox) -> None:
    sandbox.producer.store()
    assert sandbox.database.value("select wearon_event_examine()") == {}
    assert sandbox.database.value("select count(*) from analytics_events") == 0
    assert sandbox.database.value("select count(*) from store_analytics_events") == 0


def test_a_table_without_permission_holds_up_nothing(sandbox: Sandbox) -> None:
    session = sandbox.producer.b2c(push=False)
    sandbox.database.execute("revoke insert on analytics_events from service_role")
    try:
        sandbox.database.execute(
            "begin; set local role service_role; "
            f"select fail_generation('b2c', '{session.session_id}', 'Sorry'); commit"
        )
    finally:
        sandbox.database.execute("grant insert on analytics_events to service_role")
    assert sandbox.database.value("select status from generation_sessions") == "failed"
    assert events(sandbox, session) == []


def test_a_trigger_that_is_slower_than_the_statements_limit_holds_up_nothing(sandbox: Sandbox) -> None:
    session = sandbox.producer.b2c(push=False)
    sandbox.database.execute(
        "create function dream() returns trigger language plpgsql as 'begin perform pg_sleep(20); return new; end'; "
        "create trigger dream before insert on analytics_events for each row execute function dream()"
    )
    try:
        sandbox.database.execute(
            "begin; set local statement_timeout = '300ms'; "
            f"select fail_generation('b2c', '{session.session_id}', 'Sorry'); commit"
        )
    finally:
        sandbox.database.execute("drop trigger dream on analytics_events; drop function dream()")
    assert sandbox.database.value("select status from generation_sessions") == "failed"
    assert sandbox.balance_changes(session.owner_id) == [10, -1, 1]


def test_the_migration_keeps_what_was_told(sandbox: Sandbox, session: Queued) -> None:
    fail(sandbox, session)
    sandbox.database.apply(MIGRATION)
    fail(sandbox, session)
    assert len([each for each in events(sandbox, session) if each["event_type"] == "generation_failed"]) == 1


def results(sandbox: Sandbox, store: str | None = None) -> dict[str, dict[str, Any]]:
    found = sandbox.database.value("select wearon_prompt_results(now() - interval '1 hour', $1)", store)
    return {each.pop("version"): each for each in found["versions"]}


def test_results_of_a_prompt_version_are_those_of_its_sessions_that_asked_for_a_picture(sandbox: Sandbox) -> None:
    first, second = sandbox.producer.b2c(push=False), sandbox.producer.b2b(push=False)
    blocked, other = sandbox.producer.b2b(second.owner_id, push=False), sandbox.producer.b2c(push=False)
    for session in (first, first, second):
        complete(sandbox, session)
    fail(sandbox, blocked, "moderation_blocked")
    call(sandbox, "fail_generation($1, $2, 'Sorry', 3000, $3)", other, {"prompt_version": "worker-1"})
    counts = {"ended": 3, "completed": 2, "blocked": 1}
    assert results(sandbox) == {"worker-1": {**counts, "seconds": [2, 3, 0], "cost_usd": [2, 0.04, 0]}}
    assert results(sandbox, second.owner_id)["worker-1"]["ended"] == 2


def test_facts_that_are_no_numbers_hold_up_no_end(sandbox: Sandbox) -> None:
    session = sandbox.producer.b2c(push=False)
    facts = {**FACTS, "prompt_version": "v" * 300, "cost_usd": "much"}
    call(sandbox, "fail_generation($1, $2, 'Sorry', 3000, $3)", session, facts)
    assert results(sandbox)["v" * 100]["ended"] == 1
