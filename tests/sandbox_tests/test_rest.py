"""The gateway's PostgREST half, asked by the real `postgrest` client."""

from collections.abc import Iterator
from typing import Any

import pytest
from postgrest import APIError, SyncPostgrestClient

from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from tests.sandbox_tests.conftest import call, rest_client

FUNCTIONS = """
create function f_jsonb(p jsonb) returns jsonb language sql as 'select p';
create function f_null() returns int language sql as 'select null::int';
create function f_text(p int, q text default 'x') returns text language sql as $$ select q || p $$;
create function f_raise(p text) returns void language plpgsql as
    $$ begin
        raise exception 'went wrong: %', p using errcode = coalesce(nullif(p, ''), 'P0001'), hint = 'try again';
    end $$;
grant execute on all functions in schema public to service_role;
"""


@pytest.fixture
def functions(sandbox: Sandbox) -> Iterator[None]:
    """Functions of every shape of result."""
    sandbox.database.execute(FUNCTIONS)
    yield
    names = sandbox.database.fetch(
        "select oid::regprocedure::text as name from pg_proc "
        "where proname like 'f\\_%' and pronamespace = 'public'::regnamespace"
    )
    sandbox.database.execute(";".join(f"drop function {row['name']}" for row in names))


@pytest.fixture
def user(sandbox: Sandbox) -> str:
    return sandbox.producer.user(balance=3)


def test_scalar_void_and_missing_results_have_postgrests_shapes(
    rest: SyncPostgrestClient, functions: None, user: str
) -> None:
    deduct = {"p_user_id": user, "p_amount": 2, "p_description": "x"}
    assert call(rest, "deduct_credits", **deduct) is True
    assert call(rest, "deduct_credits", **deduct) is False
    assert call(rest, "refund_credits", **deduct) == []
    assert call(rest, "f_null") is None
    assert call(rest, "f_text", p=2) == "x2"
    assert call(rest, "f_text", q="y", p=2) == "y2"
    assert call(rest, "f_jsonb", p={"a": [1, None]}) == {"a": [1, None]}


def test_an_unknown_function_is_pgrst202(sandbox: Sandbox) -> None:
    headers = {"apikey": sandbox.service_key}
    answer = HTTP.post(f"{sandbox.supabase_url}/rest/v1/rpc/nothing", json={"b": 1, "a": 2}, headers=headers)

    assert answer.status_code == 404
    assert answer.json() == {
        "code": "PGRST202",
        "details": "Searched for the function public.nothing with parameters b, a or with a single unnamed json/jsonb "
        "parameter, but no matches were found in the schema cache.",
        "hint": None,
        "message": "Could not find the function public.nothing(b, a) in the schema cache",
    }


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        ("", "P0001", 400),
        ("23505", "23505", 409),
        ("23514", "23514", 400),
        ("42501", "42501", 403),
        ("PT418", "PT418", 418),
    ],
)
def test_errors_raised_in_sql_arrive_with_their_code(
    sandbox: Sandbox, functions: None, argument: str, code: str, status: int
) -> None:
    headers = {"apikey": sandbox.service_key}
    url = f"{sandbox.supabase_url}/rest/v1/rpc/f_raise"
    answer = HTTP.post(url, json={"p": argument}, headers=headers)

    assert answer.status_code == status
    assert answer.json() == {
        "code": code,
        "details": None,
        "hint": "try again",
        "message": f"went wrong: {argument}",
    }


def test_filters_select_rows(rest: SyncPostgrestClient, sandbox: Sandbox) -> None:
    users = [sandbox.producer.user(balance=number) for number in range(5)]
    balances = rest.table("user_credits").select("balance")

    def found(query: Any) -> list[int]:
        return sorted(row["balance"] for row in query.execute().data)

    assert found(balances.eq("user_id", users[2])) == [2]
    balances = rest.table("user_credits").select("balance")
    assert found(balances.gt("balance", 1).lt("balance", 4)) == [2, 3]
    balances = rest.table("user_credits").select("balance")
    assert found(balances.in_("user_id", users[:2])) == [0, 1]


def test_rows_come_ordered_and_limited(rest: SyncPostgrestClient, sandbox: Sandbox) -> None:
    for number in range(5):
        sandbox.producer.user(balance=number)
    ordered = rest.table("user_credits").select("balance").order("balance")

    assert ordered.range(1, 2).execute().data == [{"balance": 1}, {"balance": 2}]


def test_unknown_tables_columns_and_operators_are_errors(rest: SyncPostgrestClient) -> None:
    for query, code in (
        (rest.table("nothing").select("*"), "PGRST205"),
        (rest.table("user_credits").select("nothing"), "42703"),
        (rest.table("user_credits").select("*").eq("nothing", 1), "42703"),
        (rest.table("user_credits").select("*").filter("balance", "almost", "1"), "PGRST100"),
        (rest.table("user_credits").select("*").eq("balance", "x"), "22P02"),
    ):
        with pytest.raises(APIError) as error:
            query.execute()
        assert error.value.code == code


def test_keys_decide_on_the_role(sandbox: Sandbox, user: str) -> None:
    with rest_client(sandbox, sandbox.anon_key) as anonymous:
        assert anonymous.table("user_credits").select("*").execute().data == []
        with pytest.raises(APIError) as error:
            call(anonymous, "refund_credits", p_user_id=user, p_amount=1, p_description="")
        assert error.value.code == "42501"
    url = f"{sandbox.supabase_url}/rest/v1/user_credits"
    assert HTTP.get(url).status_code == 401
    assert HTTP.get(url, headers={"apikey": sandbox.service_key[:-2] + "xx"}).status_code == 401


@pytest.mark.parametrize(("key", "status"), [("secret_key", 204), ("publishable_key", 403)])
def test_a_key_that_is_no_jwt_belongs_into_apikey_alone(sandbox: Sandbox, user: str, key: str, status: int) -> None:
    url = f"{sandbox.supabase_url}/rest/v1/rpc/refund_credits"
    body = {"p_user_id": user, "p_amount": 1, "p_description": ""}
    headers = {"apikey": getattr(sandbox, key)}
    assert HTTP.post(url, json=body, headers=headers).status_code == status
    as_bearer = HTTP.post(url, json=body, headers={**headers, "Authorization": f"Bearer {getattr(sandbox, key)}"})
    assert (as_bearer.status_code, as_bearer.json()["code"]) == (401, "PGRST301")
    assert as_bearer.json()["message"] == "Expected 3 parts in JWT; got 1"


def test_a_stopped_database_answers_503_and_comes_back(rest: SyncPostgrestClient, sandbox: Sandbox, user: str) -> None:
    sandbox.postgres.stop()
    try:
        with pytest.raises(APIError) as error:
            call(rest, "deduct_credits", p_user_id=user, p_amount=1, p_description="")
        assert error.value.code == "PGRST000"
    finally:
        sandbox.postgres.start()
    assert rest.table("user_credits").select("balance").execute().data == [{"balance": 3}]
    assert sandbox.balance(user) == 3
