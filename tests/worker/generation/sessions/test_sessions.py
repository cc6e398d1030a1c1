"""Session rows against other answers of the database than the usual one: waited for, and never a crash."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sandbox import Sandbox
from worker.errors import ServiceUnavailable
from worker.generation.channel import Channel, SessionRef
from worker.generation.sessions.sessions import Sessions
from worker.generation.supabase.database import AnswerLost, FunctionMissing
from worker.generation.supabase.installed import SIGNATURES, Installed
from worker.generation.sweep.open_sessions import AllSessions

ID = uuid4()
SESSION = SessionRef(Channel.B2C, ID)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("project_paused", "restore it in the Supabase dashboard"),
        ("project_restricted", "the project is restricted"),
        ("too_many_requests", "too many requests (429 API rate limit exceeded)"),
        ("database_unreachable", "PGRST000"),
        ("schema_unreadable", "PGRST002"),
        ("pool_exhausted", "PGRST003"),
        ("statement_timeout", "statement_timeout (57014"),
    ],
)
async def test_an_answer_of_the_moment_may_be_asked_for_again(
    sandbox: Sandbox, sessions: Sessions, open_sessions: AllSessions, answer: str, said: str
) -> None:
    sandbox.gateway.fault(answer)
    for call in (
        sessions.start(SESSION, ID),
        open_sessions.open(["queued"]),
        sessions.find(ID, set()),
    ):
        with pytest.raises(ServiceUnavailable) as error:
            await call
        assert said in str(error.value)


@pytest.mark.parametrize(("status", "lost"), [(500, False), (502, True), (504, True), (522, True), (540, False)])
async def test_a_gateway_that_gave_up_waiting_leaves_it_open_what_was_done(
    sandbox: Sandbox, sessions: Sessions, status: int, lost: bool
) -> None:
    sandbox.gateway.fault("unavailable", status=status, html=True)
    with pytest.raises(ServiceUnavailable, match=str(status)) as error:
        await sessions.start(SESSION, ID)
    assert isinstance(error.value, AnswerLost) is lost
    assert "<" not in str(error.value)


async def test_a_stale_schema_is_named_with_both_remedies(sandbox: Sandbox, sessions: Sessions) -> None:
    sandbox.gateway.fault("schema_stale")
    with pytest.raises(FunctionMissing, match=r"apply functions.sql; .* notify pgrst, 'reload schema'"):
        await sessions.requeue(SESSION)


@pytest.mark.parametrize("body", [None, [], [1], [{"changed": True}], "text", 7, True, {}, {"changed": None}])
async def test_another_answer_than_an_object_is_no_crash(sandbox: Sandbox, sessions: Sessions, body: Any) -> None:
    sandbox.gateway.fault("replaced", body=body)
    with pytest.raises(ServiceUnavailable):
        await sessions.start(SESSION, ID)


@pytest.mark.parametrize("body", [None, {}, [1], [{}], [[]], "text", 7])
async def test_another_answer_than_rows_is_no_crash(
    sandbox: Sandbox, sessions: Sessions, open_sessions: AllSessions, body: Any
) -> None:
    sandbox.gateway.fault("replaced", on="table/*", body=body)
    for call in (open_sessions.open(["queued"]), sessions.find(ID, set())):
        with pytest.raises(ServiceUnavailable):
            await call


async def test_more_fields_than_known_are_ignored(sandbox: Sandbox, sessions: Sessions) -> None:
    body = {"changed": True, "status": "failed", "refund": "user", "request_id": "req_1", "more": {"a": 1}}
    sandbox.gateway.fault("replaced", body=body)
    change = await sessions.fail(SESSION, "sorry", 1)
    assert (change.changed, change.status, change.refund) == (True, "failed", "user")


async def test_a_change_without_its_status_has_the_only_one_that_it_can_have(
    sandbox: Sandbox, sessions: Sessions
) -> None:
    sandbox.gateway.fault("replaced", body={"changed": True})
    assert (await sessions.start(SESSION, ID)).status == "processing"
    assert (await sessions.requeue(SESSION)).status == "queued"
    assert (await sessions.fail(SESSION, "sorry", 1)).status == "failed"


@pytest.mark.parametrize("body", [{"changed": False}, {"status": "processing"}, {"changed": "no", "status": "queued"}])
async def test_what_no_default_can_replace_is_asked_for_again(
    sandbox: Sandbox, sessions: Sessions, body: dict[str, Any]
) -> None:
    sandbox.gateway.fault("replaced", body=body)
    with pytest.raises(ServiceUnavailable, match="database answered start_generation"):
        await sessions.start(SESSION, ID)


# Versions


async def test_a_schema_that_is_stale_for_a_moment_is_waited_for(sandbox: Sandbox, sessions: Sessions) -> None:
    sandbox.gateway.fault("schema_stale", times=3)
    assert (await sessions.installed(patience_seconds=5)).missing == []


async def test_a_schema_that_stays_stale_lacks_everything(sandbox: Sandbox, sessions: Sessions) -> None:
    sandbox.gateway.fault("schema_stale")
    assert (await sessions.installed(patience_seconds=0.3)).missing == sorted(SIGNATURES)


@pytest.mark.parametrize(
    ("version", "functions", "missing"),
    [
        (2, {"f": "a text"}, []),
        (1, {"f": "a text"}, ["f"]),
        (3, {"f": "a text"}, []),
        (3, {"f": "b uuid, a text"}, []),
        (2, {"f": "b uuid, a text"}, ["f"]),
        (3, {"f": "a uuid"}, ["f"]),
        (3, {}, ["f"]),
        (None, {"f": "a text"}, ["f"]),
        ("2", {"f": "a text"}, ["f"]),
        (2, None, ["f"]),
        (2, {"f": None}, ["f"]),
        (2, ["f"], ["f"]),
    ],
)
def test_functions_are_missing_when_older_and_compatible_when_they_take_more(
    version: Any, functions: Any, missing: list[str]
) -> None:
    answer = {"version": version, "functions": functions, "more": 1}
    assert Installed.read(answer, 2, {"f": "a text"}).missing == missing


# A session without its channel


async def test_a_session_is_found_in_the_table_that_has_it(sandbox: Sandbox, sessions: Sessions) -> None:
    user, store = sandbox.producer.b2c(push=False), sandbox.producer.b2b(push=False)
    for channel, id_ in ((Channel.B2C, UUID(user.session_id)), (Channel.B2B, UUID(store.session_id))):
        assert await sessions.find(id_, set()) == SessionRef(channel, id_)
    assert await sessions.find(uuid4(), set()) is None


async def test_of_two_sessions_with_one_id_the_owner_decides(sandbox: Sandbox, sessions: Sessions) -> None:
    user, store = sandbox.producer.b2c(push=False), sandbox.producer.b2b(push=False)
    sandbox.database.execute(
        f"update store_generation_sessions set id = '{user.session_id}' where id = '{store.session_id}'"
    )
    both = UUID(user.session_id)
    assert await sessions.find(both, {user.owner_id}) == SessionRef(Channel.B2C, both)
    assert await sessions.find(both, {store.owner_id}) == SessionRef(Channel.B2B, both)
    assert await sessions.find(both, {str(uuid4())}) is None
    assert await sessions.find(both, {user.owner_id, store.owner_id}) is None
