"""The SQL function that begins a session: its credit and its row, both or neither."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.sandbox import Sandbox
from worker.generation.channel import Channel
from worker.generation.queue.order import Owner, message_of, session_row

URLS = [f"https://photos.example/{name}.jpg" for name in ("person", "garment", "hat")]


@pytest.fixture(params=["user", "store", "shopper"])
def owner(sandbox: Sandbox, request: pytest.FixtureRequest) -> Owner:
    if request.param == "user":
        return Owner(Channel.B2C, UUID(sandbox.producer.user(2)))
    store = sandbox.producer.store(2)
    email = sandbox.producer.shopper(store, balance=2) if request.param == "shopper" else None
    return Owner(Channel.B2B, UUID(store), email)


def row(owner: Owner, **changed: Any) -> dict[str, Any]:
    return {**session_row(message_of(owner, uuid4(), URLS, {}), owner.shopper_email), **changed}


def begin(sandbox: Sandbox, owner: Owner, session: dict[str, Any]) -> str | None:
    answer = sandbox.database.value("select wearon_begin_session($1, $2, 'Try-on')", owner.channel, session)
    return answer["status"]  # type: ignore[no-any-return]


def balance(sandbox: Sandbox, owner: Owner) -> int:
    return sandbox.balance(str(owner.id), *[owner.shopper_email] if owner.shopper_email else [])


def test_a_session_is_begun_once_and_paid_for_by_its_payer(sandbox: Sandbox, owner: Owner) -> None:
    session = row(owner)
    with ThreadPoolExecutor(8) as several:
        assert set(several.map(lambda _: begin(sandbox, owner, session), range(8))) == {"queued"}
    assert balance(sandbox, owner) == 1
    [made] = sandbox.database.fetch(f"select * from {owner.channel.table}")
    assert (str(made["id"]), made["status"], made["credits_used"]) == (session["id"], "queued", 1)
    assert (made["model_image_url"], made["outfit_image_url"]) == (URLS[0], URLS[1])
    refund = sandbox.database.value("select fail_generation($1, $2, 'Sorry')", owner.channel, made["id"])["refund"]
    assert refund == ("user" if owner.channel is Channel.B2C else "shopper" if owner.shopper_email else "store")
    assert (begin(sandbox, owner, session), balance(sandbox, owner)) == ("failed", 2)


def test_a_row_that_the_table_refuses_takes_no_credit(sandbox: Sandbox, owner: Owner) -> None:
    with pytest.raises(asyncpg.NotNullViolationError):
        begin(sandbox, owner, row(owner, model_image_url=None))
    assert balance(sandbox, owner) == 2


def test_a_payer_without_credit_gets_no_session(sandbox: Sandbox, owner: Owner) -> None:
    assert [begin(sandbox, owner, row(owner)) for _ in range(3)] == ["queued", "queued", None]
    assert sandbox.database.value(f"select count(*) from {owner.channel.table}") == 2


def test_an_id_in_capitals_pays_for_one_delivery(sandbox: Sandbox) -> None:
    user = sandbox.producer.user(2)
    session = row(Owner(Channel.B2C, UUID(user)))
    begin(sandbox, Owner(Channel.B2C, UUID(user)), {**session, "id": session["id"].upper()})
    start = "select start_generation('b2c', $1, $2)"
    assert sandbox.database.value(start, session["id"], user)["paid"]
    sandbox.database.value("select complete_generation('b2c', $1, 'https://x/1.jpg', 1, 1, 0.04, 1)", session["id"])
    sandbox.database.execute("update generation_sessions set status = 'queued'")  # its user may
    assert not sandbox.database.value(start, session["id"], user)["paid"]


def test_the_row_of_the_app_keeps_its_prompts(sandbox: Sandbox, owner: Owner) -> None:
    begin(sandbox, owner, row(owner, prompt_system="Be kind.", prompt_user="Blue"))
    [made] = sandbox.database.fetch(f"select prompt_system, prompt_user from {owner.channel.table}")
    assert (made["prompt_system"], made["prompt_user"]) == ("Be kind.", "Blue")


def test_a_stores_session_without_a_request_id_is_refused(sandbox: Sandbox) -> None:
    store = Owner(Channel.B2B, UUID(sandbox.producer.store(2)))
    with pytest.raises(asyncpg.InvalidParameterValueError, match="has no request_id"):
        begin(sandbox, store, row(store, request_id=None))
    assert balance(sandbox, store) == 2
