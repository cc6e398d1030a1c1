"""An upgrade of the SQL functions in a database that has an older version of them, with sessions under way."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox import Sandbox
from tests.sandbox.database import Database
from tests.sandbox.producer import Producer, Queued
from tests.sandbox.sandbox import MIGRATION, SCHEMA
from worker.generation.supabase.installed import MIGRATION_VERSION, SIGNATURES

OLD = sorted((Path(__file__).parent / "migrations").glob("version-*.sql"))


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def old(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database of the product with an old version of the functions."""
    url = sandbox.postgres.create_database()
    with Database(url) as database:
        for script in (SCHEMA, request.param):
            database.apply(script)
        yield database
    sandbox.postgres.drop_database(url.rsplit("/", 1)[1])


def call(database: Database, function: str, session: Queued, *arguments: object) -> dict[str, Any]:
    places = "".join(f", ${number}" for number in range(3, len(arguments) + 3))
    answer: dict[str, Any] = database.value(
        f"select {function}($1, $2{places})", session.channel, session.session_id, *arguments
    )
    return answer


def test_sessions_under_way_are_settled_after_the_upgrade(sandbox: Sandbox, old: Database) -> None:
    producer = Producer(old, sandbox.redis, ["url"])
    sessions = [producer.b2c(push=False), producer.b2b(push=False)]
    ended = [producer.b2c(push=False), producer.b2b(push=False)]
    for session in (*sessions, *ended):
        assert call(old, "start_generation", session, session.owner_id)["changed"]
    for session in ended:
        assert call(old, "fail_generation", session, "Sorry")["changed"]

    old.apply(MIGRATION)
    installed = old.value("select wearon_worker_functions()")
    assert installed["version"] == MIGRATION_VERSION
    assert SIGNATURES.items() <= installed["functions"].items()
    assert [call(old, "fail_generation", session, "Sorry")["refund"] for session in sessions] == ["user", "store"]
    assert [call(old, "fail_generation", session, "Sorry")["changed"] for session in ended] == [False, False]
    run = "6b3f3a56-3d6c-4f0e-9a5c-0f9a8f0f7a11"
    while old.value("select wearon_audit_step($1)", run)["state"] != "done":
        pass
    assert old.value("select wearon_audit_report()")["findings"] == []


def test_the_audit_runs_as_the_service_role_alone(sandbox: Sandbox) -> None:
    tables = sandbox.database.fetch(
        "select role, relname, has_table_privilege(role, c.oid, 'SELECT') as reads, "
        "has_schema_privilege(role, 'wearon', 'USAGE') as uses "
        "from pg_class c, unnest(array['anon', 'authenticated', 'service_role']) role "
        "where relnamespace = 'wearon'::regnamespace and relkind = 'r'"
    )
    assert {(row["role"], row["reads"], row["uses"]) for row in tables} == {
        ("anon", False, False),
        ("authenticated", False, False),
        ("service_role", True, True),
    }


def test_no_statement_changes_a_whole_table() -> None:
    """Supabase loads pg-safeupdate for its API: "UPDATE requires a WHERE clause", inside functions, too."""
    text = re.sub(r"\s+", " ", re.sub(r"--.*", "", MIGRATION.read_text()))
    parts: list[str] = []
    while brackets := re.findall(r"\(([^()]*)\)", text):
        parts += brackets
        text = re.sub(r"\([^()]*\)", "", text)
    change = r"(?<!do )\b(?:update [\w.]+ (?:\w+ )?set|delete from) .*"
    changes = [found.group() for part in ";".join([*parts, text]).split(";") if (found := re.search(change, part))]
    assert len(changes) > 40
    assert [each for each in changes if " where " not in each] == []
