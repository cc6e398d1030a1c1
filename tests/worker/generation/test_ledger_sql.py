"""Money is decided by the ledger: rows that users write, request ids that clients repeat, refunds of the app."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued
from tests.worker.generation.test_functions_sql import Functions

CLEAN_UP = "Stuck job recovery: session {} timed out after 10 minutes"
BIG_TABLES = ("generation_sessions", "store_generation_sessions", "credit_transactions", "store_credit_transactions")


def as_user(sandbox: Sandbox, user: str, statement: str) -> None:
    """Run a statement as the signed-in user does with the app's own key."""
    claims = f'{{"role": "authenticated", "sub": "{user}"}}'
    sandbox.database.execute(
        f"begin; set local role authenticated; set local request.jwt.claims = '{claims}'; {statement}; commit"
    )


def delivered(sandbox: Sandbox, user: str | None = None) -> Functions:
    functions = Functions(sandbox, sandbox.producer.b2c(user, push=False))
    assert functions.start()["changed"]
    assert functions.complete()["changed"]
    return functions


def written(sandbox: Sandbox, user: str) -> Functions:
    """A session that the user has written without paying for it."""
    session_id = str(uuid4())
    as_user(
        sandbox,
        user,
        "insert into generation_sessions (id, user_id, model_image_url, prompt_system, credits_used) "
        f"values ('{session_id}', '{user}', 'url', '', 1000)",
    )
    return Functions(sandbox, Queued("b2c", session_id, "req", user, {}))


# Rows that users write


@pytest.mark.parametrize(
    "change", ["status = 'queued'", "status = 'processing'", "status = 'pending', credits_used = 9"]
)
def test_a_delivered_session_that_its_user_opens_again_pays_nothing(sandbox: Sandbox, change: str) -> None:
    functions = delivered(sandbox)
    session = functions.session
    for _ in range(2):
        as_user(sandbox, session.owner_id, f"update generation_sessions set {change} where id = '{session.session_id}'")
        assert not functions.start()["changed"]
        assert functions.fail() == {"changed": True, "status": "failed", "refund": "none"}
    assert functions.given_back() == []


def test_a_refunded_session_that_its_user_opens_again_pays_nothing(sandbox: Sandbox) -> None:
    functions = Functions(sandbox, sandbox.producer.b2c(push=False))
    functions.fail()
    as_user(sandbox, functions.session.owner_id, "update generation_sessions set status = 'queued'")
    assert functions.start()["paid"] is False
    assert functions.fail()["refund"] == "already_refunded"
    assert functions.given_back() == [("user", 1)]


def test_a_written_session_pays_nothing_while_another_one_runs(sandbox: Sandbox) -> None:
    running = Functions(sandbox, sandbox.producer.b2c(push=False))
    running.start()
    sandbox.producer.b2c(push=False)  # another user's
    assert written(sandbox, running.session.owner_id).fail()["refund"] == "unmatched"
    assert running.complete()["changed"]
    assert running.given_back() == []


def test_a_written_session_that_took_the_refund_of_a_waiting_one_leaves_that_one_unpaid(sandbox: Sandbox) -> None:
    waiting = Functions(sandbox, sandbox.producer.b2c(push=False))
    assert written(sandbox, waiting.session.owner_id).fail()["refund"] == "user"
    assert waiting.start()["paid"] is False
    assert waiting.fail()["refund"] == "unmatched"
    assert waiting.given_back() == [("user", 1)]


def test_every_paid_session_of_a_user_is_settled_by_its_own_deduction(sandbox: Sandbox) -> None:
    user = sandbox.producer.user(10)
    sessions = [Functions(sandbox, sandbox.producer.b2c(user, push=False)) for _ in range(4)]
    stranger = Functions(sandbox, sandbox.producer.b2c(push=False))
    assert all(functions.start()["paid"] for functions in sessions)
    assert sessions[0].complete()["changed"]
    assert [functions.fail()["refund"] for functions in sessions[1:]] == ["user"] * 3
    assert sandbox.balance(user) == 9
    bound = [line["description"].count("(session=") for line in sandbox.ledger() if line["type"] == "generation"]
    assert sorted(bound) == [0, 1, 1, 1, 1]
    assert stranger.start()["paid"]


async def test_two_sessions_that_start_at_once_do_not_share_a_deduction(sandbox: Sandbox) -> None:
    paid = sandbox.producer.b2c(push=False)
    other = written(sandbox, paid.owner_id)
    connection = await asyncpg.connect(sandbox.database.url)
    with ThreadPoolExecutor(1) as caller:
        async with connection.transaction():
            start = "select start_generation('b2c', $1, $2)"
            assert await connection.fetchval(start, paid.session_id, paid.owner_id)
            second = caller.submit(other.start)
            await asyncio.sleep(0.5)
        assert second.result()["paid"] is False
    await connection.close()


def test_a_deduction_of_last_month_pays_for_no_session_of_today(sandbox: Sandbox) -> None:
    paid = sandbox.producer.b2c(push=False)
    sandbox.database.execute("update credit_transactions set created_at = now() - interval '30 days'")
    today = written(sandbox, paid.owner_id)
    assert today.start()["paid"], "a ledger without a line of these days says nothing"
    assert today.fail()["refund"] == "unmatched"


def test_a_deduction_without_a_time_pays_for_one_session(sandbox: Sandbox) -> None:
    paid = Functions(sandbox, sandbox.producer.b2c(push=False))
    sandbox.database.execute("update credit_transactions set created_at = null where amount < 0")
    assert paid.start()["paid"]
    assert written(sandbox, paid.session.owner_id).start()["paid"] is False


# What the app does beside the worker


def test_a_session_that_the_clean_up_refunds_while_it_runs_is_not_delivered_as_well(sandbox: Sandbox) -> None:
    functions = Functions(sandbox, sandbox.producer.b2c(push=False))
    functions.start()
    session = functions.session
    sandbox.database.execute("select refund_credits($1, 1, $2)", session.owner_id, CLEAN_UP.format(session.session_id))
    assert functions.complete() == {"changed": False, "status": "failed", "image_url": None}
    assert functions.row["error_message"] == "Creating your try-on took too long. Please try again."
    assert functions.given_back() == [("user", 1)]


def test_a_store_session_that_an_uninstall_failed_is_refunded_once(sandbox: Sandbox) -> None:
    store = sandbox.producer.store()
    email = sandbox.producer.shopper(store)
    functions = Functions(sandbox, sandbox.producer.b2b(store, paid_by="shopper", shopper_email=email, push=False))
    sandbox.database.execute("update store_generation_sessions set status = 'failed', error_message = 'Uninstalled'")
    assert functions.fail() == {"changed": True, "status": "failed", "refund": "shopper"}
    assert functions.fail() == {"changed": False, "status": "failed", "refund": None}
    assert functions.row["error_message"] == "Uninstalled"
    assert functions.given_back() == [("shopper", 1)]


@pytest.mark.parametrize("meanwhile", [False, True])
@pytest.mark.parametrize("ending", ["complete", "fail"])
def test_a_started_session_that_the_app_refunds_and_fails_costs_its_user_no_other_credit(
    sandbox: Sandbox, ending: str, meanwhile: bool
) -> None:
    """The answer of the app's LPUSH was lost; the user tries again at once, or later."""
    functions = Functions(sandbox, sandbox.producer.b2c(push=False))
    functions.start()
    user = functions.session.owner_id
    sandbox.database.execute("select refund_credits($1, 1)", user)
    sandbox.database.execute("update generation_sessions set status = 'failed'")
    if not meanwhile:
        assert not functions(ending)["changed"]
    again = Functions(sandbox, sandbox.producer.b2c(user, push=False))
    assert again.start()["paid"]
    assert not functions(ending)["changed"]
    assert functions.given_back() == [("user", 1), ("user", -1)]  # the app's refund, the second try-on
    assert again.fail()["refund"] == "user"
    assert sandbox.balance(user) == 10


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "294276-12-31 23:59", "4713-01-01 BC"])
def test_a_deduction_of_an_impossible_date_ends_no_function(sandbox: Sandbox, moment: str) -> None:
    functions = Functions(sandbox, sandbox.producer.b2c(push=False))
    functions.start()
    sandbox.database.execute(f"update credit_transactions set created_at = '{moment}' where amount < 0")
    assert functions.complete()["changed"]


def test_a_refund_of_the_app_that_may_be_of_another_session_ends_none(sandbox: Sandbox) -> None:
    user = sandbox.producer.user(10)
    delivered(sandbox, user)
    running = Functions(sandbox, sandbox.producer.b2c(user, push=False))
    running.start()
    sandbox.database.execute("select refund_credits($1, 1)", user)
    assert running.complete()["changed"]


def test_a_started_session_that_its_user_fails_gives_no_credit_back(sandbox: Sandbox) -> None:
    functions = Functions(sandbox, sandbox.producer.b2c(push=False))
    functions.start()
    as_user(sandbox, functions.session.owner_id, "update generation_sessions set status = 'failed'")
    assert functions.fail() == {"changed": False, "status": "failed", "refund": None}
    assert functions.given_back() == []


def test_an_older_refund_is_not_of_a_session_that_its_user_marks_failed(sandbox: Sandbox) -> None:
    old = Functions(sandbox, sandbox.producer.b2c(push=False))
    user = old.session.owner_id
    sandbox.database.execute("select refund_credits($1, 1)", user)
    sandbox.database.execute("update generation_sessions set status = 'failed'")
    running = Functions(sandbox, sandbox.producer.b2c(user, push=False))
    assert running.start()["paid"]
    for functions, status in ((running, "failed"), (old, "queued")):
        session = functions.session.session_id
        as_user(sandbox, user, f"update generation_sessions set status = '{status}' where id = '{session}'")
    assert old.start()["paid"] is False


def test_a_refund_of_last_week_uses_up_no_deduction_of_today(sandbox: Sandbox) -> None:
    old = Functions(sandbox, sandbox.producer.b2c(push=False))
    old.fail()
    user = old.session.owner_id
    sandbox.database.execute(
        "update credit_transactions set created_at = now() - interval '7 days' - interval '5 min' where amount < 0;"
        "update credit_transactions set created_at = now() - interval '7 days' + interval '5 min' where type = 'refund'"
    )
    today = Functions(sandbox, sandbox.producer.b2c(user, push=False))
    assert today.start()["paid"]
    assert today.fail()["refund"] == "user"


# Request ids that clients repeat


def test_a_repeated_request_that_was_billed_as_overage_gives_no_credit_back(sandbox: Sandbox) -> None:
    first = Functions(sandbox, sandbox.producer.b2b(push=False))
    first.start()
    first.complete()
    for number in range(2):
        repeated = Functions(sandbox, _repeat(sandbox, first.session, billed=number == 0))
        assert repeated.start()["paid"]
        assert repeated.fail()["refund"] == "overage"
    assert first.given_back() == []


def test_the_first_session_of_a_repeated_request_gets_its_credit_back(sandbox: Sandbox) -> None:
    first = Functions(sandbox, sandbox.producer.b2b(push=False))
    repeated = Functions(sandbox, _repeat(sandbox, first.session, billed=True))
    assert repeated.fail()["refund"] == "overage"
    assert first.fail()["refund"] == "store"
    assert repeated.given_back() == [("store", 1)]


def test_a_repeated_request_that_was_not_billed_is_no_overage(sandbox: Sandbox) -> None:
    first = Functions(sandbox, sandbox.producer.b2b(push=False))
    sandbox.producer.b2b(first.session.owner_id, paid_by="overage", push=False)  # another request
    assert Functions(sandbox, _repeat(sandbox, first.session, billed=False)).fail()["refund"] == "unmatched"
    assert first.given_back() == []


def test_a_request_id_of_another_store_is_another_request(sandbox: Sandbox) -> None:
    first = Functions(sandbox, sandbox.producer.b2b(push=False))
    billed, unpaid, paid = (replace(first.session, owner_id=sandbox.producer.store()) for _ in range(3))
    assert Functions(sandbox, _repeat(sandbox, billed, billed=True)).fail()["refund"] == "overage"
    assert Functions(sandbox, _repeat(sandbox, unpaid, billed=False)).fail()["refund"] == "unmatched"
    sandbox.database.execute("select deduct_store_credits($1, 1, $2, 'Try-on')", paid.owner_id, paid.request_id)
    assert Functions(sandbox, _repeat(sandbox, paid, billed=False)).fail()["refund"] == "store"
    assert first.fail()["refund"] == "store"


# Payers that are gone


def test_a_refund_to_a_payer_without_a_balance_is_refused_and_changes_nothing(sandbox: Sandbox) -> None:
    store = sandbox.producer.store()
    email = sandbox.producer.shopper(store)
    shopper = Functions(sandbox, sandbox.producer.b2b(store, paid_by="shopper", shopper_email=email, push=False))
    sandbox.database.execute("delete from store_shopper_credits")
    with pytest.raises(asyncpg.RaiseError, match="Shopper credits not found"):
        shopper.fail()
    assert shopper.row["status"] == "queued"


# Plans


async def test_no_function_scans_a_table(sandbox: Sandbox) -> None:
    sessions = [sandbox.producer.b2c(push=False), sandbox.producer.b2b(push=False)]
    _fill(sandbox, sessions[1].owner_id)
    connection = await asyncpg.connect(sandbox.database.url)
    async with connection.transaction():
        for session in sessions:
            which = f"'{session.channel}', '{session.session_id}'"
            for call in (
                f"start_generation({which}, '{session.owner_id}')",
                f"requeue_generation({which})",
                f"start_generation({which}, '{session.owner_id}')",
                f"complete_generation({which}, 'url', 1, 1, 1, 1)",
                f"fail_generation({which}, 'Sorry')",
            ):
                await connection.fetchval(f"select {call}")
        scanned = await connection.fetch(
            "select relname from pg_stat_xact_user_tables where seq_scan > 0 and relname = any($1)", BIG_TABLES
        )
    await connection.close()
    assert [row["relname"] for row in scanned] == []


def _repeat(sandbox: Sandbox, session: Queued, *, billed: bool) -> Queued:
    if billed:
        sandbox.database.execute(
            "insert into store_credit_transactions (store_id, amount, type, request_id, description) "
            "values ($1, -1, 'overage', $2, 'Overage charge')",
            session.owner_id,
            session.request_id,
        )
    session_id = sandbox.database.value(
        "insert into store_generation_sessions (store_id, request_id, model_image_url, prompt_system) "
        "values ($1, $2, 'url', '') returning id::text",
        session.owner_id,
        session.request_id,
    )
    return Queued("b2b", session_id, session.request_id, session.owner_id, {})


def _fill(sandbox: Sandbox, store: str) -> None:
    """Rows of other owners and days, enough that a scan would never be the better plan."""
    sandbox.database.execute(
        f"""
        insert into auth.users select gen_random_uuid() from generate_series(1, 1000);
        insert into credit_transactions (user_id, amount, type, description)
            select id, -1, 'generation', 'Virtual try-on' from auth.users, generate_series(1, 30);
        insert into generation_sessions (user_id, status, model_image_url, prompt_system)
            select id, 'completed', 'url', '' from auth.users, generate_series(1, 20);
        insert into store_credit_transactions (store_id, amount, type, request_id, description)
            select '{store}', -1, 'deduction', n::text, 'Virtual try-on' from generate_series(1, 30000) n;
        insert into store_generation_sessions (store_id, status, request_id, model_image_url, prompt_system, created_at)
            select '{store}', 'completed', n::text, 'url', '', now() - n * interval '1 minute'
            from generate_series(1, 20000) n;
        analyze
        """
    )
