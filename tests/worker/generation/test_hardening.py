"""The optional hardening.sql: signed-in users keep what they may read, and change no credit any more."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from tests.sandbox import Sandbox
from tests.sandbox.database import Database
from tests.sandbox.sandbox import TEMPLATE
from worker.generation.sessions.sessions import HARDENING

CHANGES = {
    "balance": "update user_credits set balance = 1000 where user_id = auth.uid()",
    "bonus": "insert into credit_transactions (user_id, amount, type) values (auth.uid(), 9, 'signup_bonus')",
    "refund": "select refund_credits(auth.uid(), 9, 'mine')",
    "negative deduction": "select deduct_credits(auth.uid(), -9, 'mine')",
    "re-opened session": "update generation_sessions set status = 'queued' where user_id = auth.uid()",
}
READS = ("user_credits", "credit_transactions", "generation_sessions")


class Shop:
    """One user with a delivered session in a database of their own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.user = database.value("insert into auth.users default values returning id::text")
        self.session = self.paid()

    def paid(self) -> str:
        """A session of the user, as the app's server makes it with the service role."""
        assert self._as("service_role", f"select deduct_credits('{self.user}', 1, 'Virtual try-on')") == "true"
        session = self._as(
            "service_role",
            "insert into generation_sessions (user_id, model_image_url, prompt_system) "
            f"values ('{self.user}', 'url', '') returning id",
        )
        return session

    def as_user(self, statement: str) -> str:
        """The first value, as text, of a statement of the signed-in user."""
        return self._as("authenticated", statement)

    def as_worker(self, call: str) -> str:
        """The answer of one of the worker's functions."""
        return self._as("service_role", f"select {call}")

    def _as(self, role: str, statement: str) -> str:
        async def run() -> str:
            connection = await asyncpg.connect(self.database.url)
            try:
                async with connection.transaction():
                    claims = f'{{"role": "{role}", "sub": "{getattr(self, "user", "")}"}}'
                    await connection.execute(f"set local role {role}; set local request.jwt.claims = '{claims}'")
                    value = await connection.fetchval(statement)
            finally:
                await connection.close()
            return str(value).lower()

        return asyncio.run(run())


@pytest.fixture
def shop(sandbox: Sandbox) -> Iterator[Shop]:
    url = sandbox.postgres.create_database(template=TEMPLATE)
    with Database(url) as database:
        yield Shop(database)
    sandbox.postgres.drop_database(url.rsplit("/", 1)[1])


@pytest.fixture
def hardened(shop: Shop) -> Shop:
    for _ in range(2):  # re-runnable
        shop.database.apply(HARDENING)
    return shop


@pytest.mark.parametrize("change", CHANGES)
def test_without_it_a_user_may_change_credits(shop: Shop, change: str) -> None:
    shop.as_user(CHANGES[change])


@pytest.mark.parametrize("change", CHANGES)
def test_a_user_changes_no_credit(hardened: Shop, change: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        hardened.as_user(CHANGES[change])


@pytest.mark.parametrize("table", READS)
def test_a_user_still_reads_their_own_rows(hardened: Shop, table: str) -> None:
    assert int(hardened.as_user(f"select count(*) from {table}")) > 0


def test_a_user_may_still_insert_a_session(hardened: Shop) -> None:
    hardened.as_user(
        f"insert into generation_sessions (user_id, model_image_url, prompt_system) values ('{hardened.user}', 'u', '')"
    )


def test_the_worker_and_the_apps_server_lose_nothing(hardened: Shop) -> None:
    session = f"'b2c', '{hardened.paid()}'"
    assert '"changed": true' in hardened.as_worker(f"start_generation({session}, '{hardened.user}')")
    assert '"refund": "user"' in hardened.as_worker(f"fail_generation({session}, 'Sorry')")
    assert '"done"' in hardened.as_worker("wearon_audit_step(gen_random_uuid())")


def test_the_doctor_is_told_what_users_may_change(shop: Shop) -> None:
    assert shop.database.value("select wearon_examine()") == {
        "user_credits": ["authenticated UPDATE"],
        "credit_transactions": ["authenticated INSERT"],
    }
    shop.database.execute("create policy open on store_credits for all using (true)")
    assert shop.database.value("select wearon_examine()")["store_credits"] == [
        *("anon DELETE", "anon INSERT", "anon UPDATE"),
        *("authenticated DELETE", "authenticated INSERT", "authenticated UPDATE"),
    ]
    shop.database.apply(HARDENING)
    assert shop.database.value("select wearon_examine()") == {}
