"""The gateway's PostgREST half, asked by the real `postgrest` client."""

from uuid import uuid4

import httpx
import pytest
from postgrest import APIError, SyncPostgrestClient
from postgrest.types import CountMethod, ReturnMethod

from tests.sandbox import Sandbox
from tests.sandbox_tests.conftest import rest_client

FUNCTIONS = """
create function f_jsonb(p jsonb) returns jsonb language sql as 'select p';
create function f_null() returns int language sql as 'select null::int';
create function f_texts(p int, q text default 'x') returns setof text language sql
    as $$ select q || i from generate_series(1, p) i $$;
create function f_row() returns user_credits language sql as 'select * from user_credits limit 1';
create function f_table(p int) returns table (a int, b text) language sql
    as $$ select i, 'n' || i from generate_series(1, p) i $$;
create function f_raise(p text) returns void language plpgsql as
    $$ begin
        raise exception 'went wrong: %', p using errcode = coalesce(nullif(p, ''), 'P0001'), hint = 'try again';
    end $$;
create function f_write() returns int language sql as
    $$ insert into auth.users default values returning 1 $$;
grant execute on all functions in schema public to service_role;
"""


@pytest.fixture
def functions(sandbox: Sandbox):
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


def test_scalar_void_and_missing_results_have_postgrests_shapes(rest: SyncPostgrestClient, functions: None, user: str):
    deduct = {"p_user_id": user, "p_amount": 2, "p_description": "x"}
    assert rest.rpc("deduct_credits", deduct).execute().data is True
    assert rest.rpc("deduct_credits", deduct).execute().data is False
    assert rest.rpc("refund_credits", deduct).execute().data == []
    assert rest.rpc("f_null", {}).execute().data is None
    assert rest.rpc("f_jsonb", {"p": {"a": [1, None]}}).execute().data == {"a": [1, None]}


def test_sets_and_rows_have_postgrests_shapes(rest: SyncPostgrestClient, functions: None, user: str):
    assert rest.rpc("f_texts", {"p": 2}).execute().data == ["x1", "x2"]
    assert rest.rpc("f_texts", {"p": 1, "q": "y"}).execute().data == ["y1"]
    assert rest.rpc("f_row", {}).execute().data["user_id"] == user
    assert rest.rpc("f_table", {"p": 3}).gt("a", 1).order("a", desc=True).limit(1).execute().data == [
        {"a": 3, "b": "n3"}
    ]


def test_get_calls_take_arguments_from_the_query_and_may_not_write(rest: SyncPostgrestClient, functions: None):
    assert rest.rpc("f_texts", {"p": 2}, get=True).execute().data == ["x1", "x2"]
    with pytest.raises(APIError) as error:
        rest.rpc("f_write", {}, get=True).execute()
    assert error.value.code == "25006"


def test_an_unknown_function_is_pgrst202(sandbox: Sandbox):
    headers = {"apikey": sandbox.service_key}
    answer = httpx.post(f"{sandbox.supabase_url}/rest/v1/rpc/nothing", json={"b": 1, "a": 2}, headers=headers)

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
):
    headers = {"apikey": sandbox.service_key}
    url = f"{sandbox.supabase_url}/rest/v1/rpc/f_raise"
    answer = httpx.post(url, json={"p": argument}, headers=headers)

    assert answer.status_code == status
    assert answer.json() == {
        "code": code,
        "details": None,
        "hint": "try again",
        "message": f"went wrong: {argument}",
    }


def test_constraints_answer_conflict_and_bad_request(rest: SyncPostgrestClient, sandbox: Sandbox, user: str):
    with pytest.raises(APIError) as duplicate:
        rest.table("user_credits").insert({"user_id": user}).execute()
    assert duplicate.value.code == "23505"
    assert duplicate.value.details == f"Key (user_id)=({user}) already exists."
    with pytest.raises(APIError) as check:
        rest.table("user_credits").update({"balance": -1}).eq("user_id", user).execute()
    assert check.value.code == "23514"
    assert sandbox.balance(user) == 3


def test_filters_select_rows(rest: SyncPostgrestClient, sandbox: Sandbox):
    users = [sandbox.producer.user(balance=number) for number in range(5)]
    table = rest.table("user_credits")

    def found(query) -> list[int]:
        return sorted(row["balance"] for row in query.in_("user_id", users).execute().data)

    assert found(table.select("balance").eq("user_id", users[2])) == [2]
    assert found(table.select("balance").neq("balance", 2)) == [0, 1, 3, 4]
    assert found(table.select("balance").gt("balance", 1).lte("balance", 3)) == [2, 3]
    assert found(table.select("balance").gte("balance", 3)) == [3, 4]
    assert found(table.select("balance").lt("balance", 1)) == [0]
    assert found(table.select("balance").not_.in_("balance", [0, 1])) == [2, 3, 4]
    assert found(table.select("balance").is_("updated_at", None)) == []
    assert found(table.select("balance").not_.is_("updated_at", None)) == [0, 1, 2, 3, 4]
    assert found(table.select("balance").or_("balance.eq.0,and(balance.gt.2,balance.lt.4)")) == [0, 3]


def test_texts_are_matched_with_quotes_commas_and_wildcards(rest: SyncPostgrestClient, sandbox: Sandbox):
    store = sandbox.producer.store()
    for email in ('a,"b"@x.io', "c(d)@x.io", "e@y.io"):
        sandbox.producer.shopper(store, email)
    shoppers = rest.table("store_shopper_credits")

    assert len(shoppers.select("*").in_("shopper_email", ['a,"b"@x.io', "c(d)@x.io"]).execute().data) == 2
    assert len(shoppers.select("*").like("shopper_email", "*@x.io").execute().data) == 2
    assert len(shoppers.select("*").eq("shopper_email", 'a,"b"@x.io').execute().data) == 1


def test_rows_come_ordered_limited_counted_and_renamed(rest: SyncPostgrestClient, sandbox: Sandbox):
    for number in range(5):
        sandbox.producer.user(balance=number)
    query = rest.table("user_credits").select("credits:balance::text", count=CountMethod.exact)
    answer = query.order("balance", desc=True).range(1, 2).execute()

    assert answer.data == [{"credits": "3"}, {"credits": "2"}]
    assert answer.count == 5
    assert rest.table("user_credits").select("*", count=CountMethod.exact, head=True).execute().count == 5


def test_single_wants_exactly_one_row(rest: SyncPostgrestClient, user: str):
    assert rest.table("user_credits").select("balance").eq("user_id", user).single().execute().data == {"balance": 3}
    with pytest.raises(APIError) as error:
        rest.table("user_credits").select("balance").eq("user_id", str(uuid4())).single().execute()
    assert error.value.code == "PGRST116"


def test_rows_are_inserted_updated_and_deleted(rest: SyncPostgrestClient, sandbox: Sandbox):
    ids = [sandbox.producer.user(), sandbox.producer.user()]
    sandbox.database.execute("delete from user_credits")
    table = rest.table("user_credits")
    rows = table.insert([{"user_id": ids[0], "balance": 1}, {"user_id": ids[1], "balance": 2}]).execute().data
    assert [row["balance"] for row in rows] == [1, 2]
    assert rows[0]["total_spent"] == 0
    minimal = ReturnMethod.minimal
    assert table.update({"balance": 7}, returning=minimal).eq("user_id", ids[0]).execute().data == []
    assert table.upsert({"user_id": ids[1], "balance": 8}, on_conflict="user_id").execute().data[0]["balance"] == 8
    assert table.update({"balance": 9}).eq("user_id", ids[0]).eq("balance", 0).execute().data == []
    assert sandbox.balance(ids[0]) == 7
    assert len(table.delete().in_("user_id", ids).execute().data) == 2


def test_unknown_tables_columns_and_operators_are_errors(rest: SyncPostgrestClient):
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


def test_keys_decide_who_may_do_what(sandbox: Sandbox, user: str):
    with rest_client(sandbox, sandbox.anon_key) as anonymous:
        assert anonymous.table("user_credits").select("*").execute().data == []
        with pytest.raises(APIError) as error:
            anonymous.rpc("refund_credits", {"p_user_id": user, "p_amount": 1, "p_description": ""}).execute()
        assert error.value.code == "42501"
    url = f"{sandbox.supabase_url}/rest/v1/user_credits"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"apikey": sandbox.service_key[:-2] + "xx"}).status_code == 401


@pytest.mark.parametrize(("key", "status"), [("secret_key", 204), ("publishable_key", 403)])
def test_a_key_that_is_no_jwt_belongs_into_apikey_alone(sandbox: Sandbox, user: str, key: str, status: int):
    url = f"{sandbox.supabase_url}/rest/v1/rpc/refund_credits"
    body = {"p_user_id": user, "p_amount": 1, "p_description": ""}
    headers = {"apikey": getattr(sandbox, key)}
    assert httpx.post(url, json=body, headers=headers).status_code == status
    as_bearer = httpx.post(url, json=body, headers={**headers, "Authorization": f"Bearer {getattr(sandbox, key)}"})
    assert (as_bearer.status_code, as_bearer.json()["code"]) == (401, "PGRST301")
    assert as_bearer.json()["message"] == "Expected 3 parts in JWT; got 1"


def test_a_stopped_database_answers_503_and_comes_back(rest: SyncPostgrestClient, sandbox: Sandbox, user: str):
    sandbox.postgres.stop()
    try:
        with pytest.raises(APIError) as error:
            rest.rpc("deduct_credits", {"p_user_id": user, "p_amount": 1, "p_description": ""}).execute()
        assert error.value.code == "PGRST000"
    finally:
        sandbox.postgres.start()
    assert rest.table("user_credits").select("balance").execute().data == [{"balance": 3}]
    assert sandbox.balance(user) == 3
