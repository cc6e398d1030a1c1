"""The audit's functions in a real PostgreSQL: planted errors, changes since the last audit, and whose turn it is."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from click.testing import CliRunner

from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued
from tests.worker.generation.test_audit import NOTE, Books
from tests.worker.generation.test_ledger_sql import as_user
from worker.cli.audit import command
from worker.generation.audit import ledger
from worker.generation.audit.kinds import WRONG


@pytest.fixture
def books(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Books:
    monkeypatch.setattr(ledger, "PAUSE_SECONDS", 0.0)
    return Books(sandbox)


@pytest.fixture
def large(books: Books) -> Iterator[Books]:
    """Books that count as large and were proven once, so that the next audit looks at changes alone."""
    for _ in range(3):
        books.completed(books.b2c())
        books.failed(books.b2b())
        books.failed(books.shopper())
    books.audit()
    books.sql("update wearon.audit_state set small_bytes = 0")
    assert not books.audit()["full"]
    yield books
    books.sql("delete from wearon.audit_state")


# Planted errors


def _failed_not_refunded(books: Books) -> Queued:
    session = books.b2c()
    books.set(session, status="failed")
    return session


def _completed_and_refunded(books: Books) -> Queued:
    session = books.completed(books.b2b())
    books.refund_store(session)
    return session


def _refunded_twice(books: Books) -> Queued:
    session = books.failed(books.b2c())
    books.refund_user(session, NOTE.format(session.session_id))
    return session


def _refunded_wrong_amount(books: Books) -> Queued:
    session = books.b2b()
    books.set(session, status="failed")
    books.refund_store(session, credits=3)
    return session


def _refunded_to_the_store(books: Books) -> Queued:
    session = books.shopper()
    books.set(session, status="failed")
    books.refund_store(session)
    return session


def _open_and_refunded(books: Books) -> Queued:
    session = books.b2c()
    books.refund_user(session, f"Stuck job recovery: session {session.session_id} timed out after 10 minutes")
    return session


def _refund_unexplained(books: Books) -> Queued:
    session = books.completed(books.b2c())
    books.refund_user(session, "Sorry")
    return session


def _refunds_exceed_deductions(books: Books) -> Queued:
    """A session that its user has written as failed, and a refund that names it."""
    user, session_id = books.producer.user(), str(uuid4())
    as_user(
        books.sandbox,
        user,
        "insert into generation_sessions (id, user_id, status, model_image_url, prompt_system) "
        f"values ('{session_id}', '{user}', 'failed', 'url', '')",
    )
    session = Queued("b2c", session_id, "req", user, {})
    books.refund_user(session, NOTE.format(session_id))
    return session


def _user_balance(books: Books) -> Queued:
    session = books.completed(books.b2c())
    as_user(books.sandbox, session.owner_id, "update user_credits set balance = 1000, total_earned = 1001")
    return session


def _store_balance(books: Books) -> Queued:
    session = books.completed(books.b2b())
    books.sql("update store_credits set balance = balance + 1 where store_id = $1", session.owner_id)
    return session


def _shopper_balance(books: Books) -> Queued:
    session = books.completed(books.shopper("ann(home)@example.com"))
    books.sql("update store_shopper_credits set balance = balance - 1 where store_id = $1", session.owner_id)
    return session


def _stuck(books: Books) -> Queued:
    session = books.b2b()
    books.age(session, hours=3)
    return session


def _stuck_user(books: Books) -> Queued:
    session = books.b2c()
    books.age(session, hours=3)
    return session


PLANTED = {
    "failed_not_refunded": _failed_not_refunded,
    "completed_and_refunded": _completed_and_refunded,
    "refunded_twice": _refunded_twice,
    "refunded_wrong_amount": _refunded_wrong_amount,
    "refunded_to_another": _refunded_to_the_store,
    "open_and_refunded": _open_and_refunded,
    "refund_unexplained": _refund_unexplained,
    "refunds_exceed_deductions": _refunds_exceed_deductions,
    "user_balance_differs": _user_balance,
    "store_balance_differs": _store_balance,
    "shopper_balance_differs": _shopper_balance,
    "stuck": _stuck,
}
NAMELESS = {"refund_unexplained", "user_balance_differs", "store_balance_differs", "shopper_balance_differs"}


def test_every_kind_has_a_test_and_an_exit_code_of_its_own() -> None:
    assert PLANTED.keys() == WRONG.keys()
    assert len({kind.exit_code for kind in WRONG.values()} - {0, 1, 2}) == len(WRONG)


@pytest.mark.parametrize("kind", PLANTED)
def test_an_error_alone_is_one_finding_with_its_own_exit_code(books: Books, kind: str) -> None:
    books.completed(books.b2c())
    session = PLANTED[kind](books)
    report = books.audit()
    (finding,) = report["wrong"]
    assert (finding["kind"], finding["owner_id"]) == (kind, session.owner_id)
    assert finding["session_id"] == (None if kind in NAMELESS else session.session_id)
    assert (report["exit_code"], report["counts"]) == (WRONG[kind].exit_code, {kind: 1})


def test_errors_of_all_kinds_are_named_each_with_owner_session_line_and_remedy(large: Books) -> None:
    sessions = {kind: plant(large) for kind, plant in PLANTED.items()}
    result = CliRunner().invoke(command, [], env=large.sandbox.env())
    assert result.exit_code == 1
    for kind, session in sessions.items():
        assert f"wrong  1 x {kind}: {WRONG[kind].meaning}; {WRONG[kind].remedy}" in result.stdout
        assert session.owner_id in result.stdout
        assert kind in NAMELESS or session.session_id in result.stdout
    report = large.audit()
    assert report["counts"] == dict.fromkeys(PLANTED, 1)
    lines = {finding["kind"] for finding in report["wrong"] if finding["line_id"]}
    assert lines == {
        *("completed_and_refunded", "refunded_twice", "refunded_wrong_amount", "refunded_to_another"),
        *("open_and_refunded", "refund_unexplained", "refunds_exceed_deductions"),
    }


def test_rows_that_users_write_make_no_book_wrong(books: Books) -> None:
    delivered = books.completed(books.b2c())
    books.set(delivered, status="queued")
    books.failed(delivered)
    written = str(uuid4())
    as_user(
        books.sandbox,
        delivered.owner_id,
        "insert into generation_sessions (id, user_id, model_image_url, prompt_system, credits_used) "
        f"values ('{written}', '{delivered.owner_id}', 'url', '', 1000)",
    )
    books.failed(Queued("b2c", written, "req", delivered.owner_id, {}))
    assert books.unmatched() == {"row_rewritten": 1, "session_without_deduction": 1}


@pytest.mark.parametrize("by_app", [False, True])
def test_a_repeated_request_is_right_and_its_overage_is_for_a_person(books: Books, by_app: bool) -> None:
    first = books.b2b()
    if by_app:  # its refund names no session
        books.refund_store(first)
        books.set(first, status="failed")
    else:
        books.failed(first)
    books.sql(
        "insert into store_credit_transactions (store_id, amount, type, request_id) values ($1, -1, 'overage', $2)",
        *(first.owner_id, first.request_id),
    )
    second = books.sandbox.database.value(
        "insert into store_generation_sessions (store_id, request_id, model_image_url, prompt_system) "
        "values ($1, $2, 'url', '') returning id::text",
        *(first.owner_id, first.request_id),
    )
    books.failed(Queued("b2b", second, first.request_id, first.owner_id, {}))
    report = books.audit()
    assert report["right"], report["wrong"]
    assert [(it["kind"], it["session_id"]) for it in report["by_hand"]] == [("overage_failed", second)]


# Rows that are odd


@pytest.mark.parametrize("kind", ["generation", "refund"])
def test_the_greatest_amount_that_a_user_can_write_ends_no_audit(books: Books, kind: str) -> None:
    user = books.completed(books.b2c()).owner_id
    line = f"insert into credit_transactions (user_id, amount, type) values ('{user}', -2147483648, '{kind}')"
    as_user(books.sandbox, user, line)
    assert ("user_balance_differs", None) in books.wrong()


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 BC", "294000-01-01"])
def test_a_moment_that_python_has_not_ends_no_audit(books: Books, moment: str) -> None:
    session = books.b2c()
    as_user(books.sandbox, session.owner_id, f"update generation_sessions set created_at = '{moment}'")
    (finding,) = books.audit()["wrong"]
    assert (finding["kind"], finding["session_id"]) == ("stuck", session.session_id)
    assert finding["detail"] == "queued without a usable created_at, nobody works on it"


@pytest.mark.parametrize("written", [-1000, 1000])
def test_a_stuck_session_is_one_credit_whatever_its_user_writes(books: Books, written: int) -> None:
    session = _stuck_user(books)
    books.set(session, credits_used=written)
    assert books.audit()["drift"] == 1


def test_addresses_of_shoppers_that_differ_in_case_or_are_empty_end_no_audit(books: Books) -> None:
    session = books.completed(books.shopper("ann@example.com"))
    for email in ("Ann@Example.com", "", " "):
        books.sql("insert into store_shopper_credits (store_id, shopper_email) values ($1, $2)",
                  session.owner_id, email)  # fmt: skip
    assert books.wrong() == []


def test_a_lost_line_of_a_shopper_is_one_credit_beside_what_was_bought_without_a_line(books: Books) -> None:
    session = books.completed(books.shopper())
    books.sql("delete from store_credit_transactions where store_id = $1", session.owner_id)
    books.sql("update store_shopper_credits set total_spent = 0 where store_id = $1", session.owner_id)
    (finding,) = books.audit()["wrong"]
    assert (finding["kind"], finding["credits"]) == ("shopper_balance_differs", 1)
    assert finding["detail"].startswith("balance 9, ledger 0, bought without a line 10, shopper with the MD5 ")


def test_all_failures_of_one_user_are_counted(books: Books) -> None:
    user = books.producer.user()
    books.sql("update user_credits set balance = 30, total_earned = 30 where user_id = $1", user)
    books.sql("update credit_transactions set amount = 30 where user_id = $1", user)
    for _ in range(25):
        books.set(books.b2c(user), status="failed")
    report = books.audit()
    assert (report["counts"], report["drift"]) == ({"failed_not_refunded": 25}, 25)


# Mended as the runbook says


def test_a_credit_that_is_taken_again_in_the_name_of_its_session_settles_the_finding(books: Books) -> None:
    session = books.completed(books.b2c())
    books.refund_user(session, NOTE.format(session.session_id))
    assert books.wrong() == [("completed_and_refunded", session.session_id)]
    books.sql("select deduct_credits($1, 1, $2)", session.owner_id, f"By hand (session={session.session_id})")
    assert books.wrong() == []


def test_a_surplus_refund_that_is_booked_as_a_gift_settles_the_finding(books: Books) -> None:
    user, store = books.completed(books.b2c()), books.completed(books.b2b())
    books.refund_user(user, NOTE.format(user.session_id))
    books.refund_store(store)
    assert [kind for kind, _ in books.wrong()] == ["completed_and_refunded"] * 2
    books.sql("update credit_transactions set type = 'signup_bonus' where type = 'refund'")
    books.sql("update store_credit_transactions set type = 'purchase' where type = 'refund'")
    assert books.wrong() == []


def test_a_store_refund_of_a_wrong_amount_that_is_corrected_settles_the_finding(books: Books) -> None:
    session = _refunded_wrong_amount(books)
    (finding,) = books.audit()["wrong"]
    books.sql("update store_credit_transactions set amount = 1 where id = $1", finding["line_id"])
    books.sql("update store_credits set balance = balance - 2 where store_id = $1", session.owner_id)
    assert books.wrong() == []


def test_a_refund_to_the_store_that_is_moved_to_the_shopper_settles_the_finding(books: Books) -> None:
    session = _refunded_to_the_store(books)
    (finding,) = books.audit()["wrong"]
    books.sql("update store_credit_transactions set description = concat(description, ' (shopper=ann@example.com)') "
              "where id = $1", finding["line_id"])  # fmt: skip
    books.sql("update store_credits set balance = balance - 1 where store_id = $1", session.owner_id)
    books.sql("update store_shopper_credits set balance = balance + 1 where store_id = $1", session.owner_id)
    assert books.wrong() == []


def test_a_line_of_no_credit_settles_an_overage_that_was_refunded_by_hand(books: Books) -> None:
    session = books.failed(books.b2b(paid_by="overage"))
    assert len(books.audit()["by_hand"]) == 1
    books.sql("insert into store_credit_transactions (store_id, amount, type, request_id, description) "
              "values ($1, 0, 'refund', $2, 'Charge refunded')", session.owner_id, session.request_id)  # fmt: skip
    report = books.audit()
    assert (report["right"], report["by_hand"]) == (True, [])


# Since the last audit


def test_new_lines_and_sessions_are_seen(large: Books) -> None:
    for plant in (_failed_not_refunded, _completed_and_refunded, _refund_unexplained):
        plant(large)
    report = large.audit()
    assert not report["full"]
    assert len(report["counts"]) == 3


def test_a_finding_stays_until_it_is_mended(large: Books) -> None:
    session = _failed_not_refunded(large)
    kind = [("failed_not_refunded", session.session_id)]
    assert [large.wrong(), large.wrong()] == [kind, kind]
    large.refund_user(session, NOTE.format(session.session_id))
    assert large.wrong() == []


def test_a_session_that_was_open_is_looked_at_again(large: Books) -> None:
    sessions = [large.b2c(), large.b2b()]
    for session in sessions:
        large.age(session, minutes=3)
    assert large.wrong() == []
    for session in sessions:
        large.set(session, status="failed")
        large.age(session, days=2)
    assert {session_id for _, session_id in large.wrong()} == {session.session_id for session in sessions}


def test_the_refund_of_a_store_whose_session_ended_long_ago_is_seen(large: Books) -> None:
    session = large.completed(large.b2b())
    large.age(session, days=2)
    large.sql("update store_credit_transactions set created_at = created_at - interval '2 days' "
              "where request_id = $1", session.request_id)  # fmt: skip
    assert large.wrong() == []
    large.refund_store(session)
    assert large.wrong() == [("completed_and_refunded", session.session_id)]


def test_a_balance_that_its_user_writes_is_seen_at_once(large: Books) -> None:
    _user_balance(large)
    assert large.audit()["counts"] == {"user_balance_differs": 1}


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ("user_credits", "user_balance_differs"),
        ("store_credits", "store_balance_differs"),
        ("store_shopper_credits", "shopper_balance_differs"),
    ],
)
def test_a_balance_whose_row_is_gone_is_seen_at_once(large: Books, table: str, kind: str) -> None:
    user, store, shopper = (large.completed(one) for one in (large.b2c(), large.b2b(), large.shopper()))
    owner = {"user_credits": user, "store_credits": store, "store_shopper_credits": shopper}[table].owner_id
    assert large.wrong() == []
    large.sql(f"delete from {table} where {'user_id' if table == 'user_credits' else 'store_id'} = $1", owner)
    report = large.audit()
    assert (report["full"], report["counts"]) == (False, {kind: 1})


async def test_lines_of_a_transaction_that_commits_late_are_seen(large: Books) -> None:
    session = large.completed(large.b2c())
    connection = await asyncpg.connect(large.sandbox.database.url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("select refund_credits($1, 1, 'Sorry')", session.owner_id)
    assert await asyncio.to_thread(large.wrong) == []
    await transaction.commit()
    await connection.close()
    assert await asyncio.to_thread(large.wrong) == [("refund_unexplained", None)]


def test_a_line_that_was_changed_behind_the_last_audit_is_seen(large: Books) -> None:
    large.sql("update store_credit_transactions set amount = 2 where id = (select id from store_credit_transactions "
              "where type = 'refund' limit 1)")  # fmt: skip
    report = large.audit()
    assert report["counts"].keys() in ({"refunded_wrong_amount", "store_balance_differs"},
                                       {"refunded_wrong_amount", "shopper_balance_differs"})  # fmt: skip


def test_a_line_that_was_deleted_behind_the_last_audit_starts_a_full_one(large: Books) -> None:
    large.sql("delete from credit_transactions where id = (select id from credit_transactions "
              "where type = 'generation' limit 1)")  # fmt: skip
    report = large.audit()
    assert report["full"]
    assert report["counts"] == {"user_balance_differs": 1}


def test_users_and_stores_that_are_deleted_start_no_full_audit(large: Books) -> None:
    large.sql("delete from auth.users where id = (select user_id from user_credits limit 1)")
    large.sql("delete from stores where id = (select store_id from store_credits limit 1)")
    report = large.audit()
    assert (report["full"], report["right"]) == (False, True)


def test_only_a_full_audit_sees_a_row_that_was_rewritten_behind_the_last_one(large: Books) -> None:
    row = large.sandbox.database.value("select id::text from store_generation_sessions where status = 'failed' limit 1")
    large.sql("update store_generation_sessions set status = 'completed', created_at = now() - interval '2 days' "
              "where id = $1", row)  # fmt: skip
    assert large.wrong() == []
    result = CliRunner().invoke(command, ["--full", "--json"], env=large.sandbox.env())
    assert json.loads(result.stdout)["counts"] == {"completed_and_refunded": 1}


# Turns


def step(books: Books, run: str) -> str:
    answer: dict[str, Any] = books.sandbox.database.value("select wearon_audit_step($1, true, 0)", run)
    state: str = answer["state"]
    return state


def test_no_two_audits_run_at_once(books: Books) -> None:
    first, second = str(uuid4()), str(uuid4())
    assert step(books, first) == "working"
    assert step(books, second) == "busy"
    while step(books, first) != "done":
        assert step(books, second) == "busy"
    assert step(books, first) == "done"  # the answer was lost, and the call came again
    assert step(books, second) == "working"


def test_an_audit_whose_worker_died_gives_way_after_half_a_minute(books: Books) -> None:
    step(books, str(uuid4()))
    books.sql("update wearon.audit_state set stepped_at = now() - interval '31 seconds'")
    assert step(books, str(uuid4())) == "working"


def test_an_audit_ends_at_once_while_another_one_runs_unless_it_has_patience(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cli.audit._PATIENCE_SECONDS", 0.0)
    step(books, str(uuid4()))
    result = CliRunner().invoke(command, [], env=books.sandbox.env())
    assert (result.exit_code, "another audit is under way" in result.stderr) == (2, True)
    books.sql("update wearon.audit_state set run = null")


def test_a_backup_of_the_database_holds_up_no_audit(books: Books) -> None:
    session = _failed_not_refunded(books)

    async def audit_beside_a_backup() -> list[tuple[str, str | None]]:
        backup = await asyncpg.connect(books.sandbox.database.url)
        async with backup.transaction(isolation="repeatable_read"):
            for table in ("audit_state", "audit_accounts", "audit_findings", "audit_touched"):
                await backup.execute(f"lock table wearon.{table} in access share mode")
            found = await asyncio.wait_for(asyncio.to_thread(books.wrong), 30)
        await backup.close()
        return found

    assert asyncio.run(audit_beside_a_backup()) == [("failed_not_refunded", session.session_id)]


def test_a_crash_of_the_database_loses_no_note_of_the_audit(books: Books) -> None:
    kinds = books.sandbox.database.fetch(
        "select relname from pg_class where relnamespace = 'wearon'::regnamespace and relpersistence <> 'p'"
    )
    assert kinds == []
