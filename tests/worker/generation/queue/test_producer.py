"""Queueing a try-on when an answer is lost, and following it while the database is away or the session is gone."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.integration.worker_process import wait_for
from tests.sandbox import Sandbox
from tests.sandbox.sandbox import BUCKET
from worker.errors import WorkerError
from worker.generation import keys
from worker.generation.channel import Channel, SessionRef
from worker.generation.data_life.areas import folders_of
from worker.generation.message import parse
from worker.generation.queue import producer as producers
from worker.generation.queue.order import EnqueueFailed, File, Owner
from worker.generation.queue.producer import producer
from worker.generation.sessions.sessions import Sessions
from worker.settings import Settings

PHOTOS: list[str | File] = ["https://photos.example/person.jpg", "https://photos.example/garment.jpg"]


async def test_a_database_that_is_away_for_a_moment_does_not_end_the_following(
    sandbox: Sandbox, settings: Settings
) -> None:
    queued = sandbox.producer.b2c(push=False)
    sandbox.database.execute("update generation_sessions set status = 'completed'")
    sandbox.gateway.fault("pool_exhausted", times=2)
    async with producer(settings) as app:
        found = [row async for row in app.follow(parse(json.dumps(queued.message).encode()), 20)]
    assert [row["status"] for row in found] == ["completed"]


async def test_a_session_that_was_deleted_ends_the_following(sandbox: Sandbox, settings: Settings) -> None:
    queued = sandbox.producer.b2c(push=False)
    sandbox.database.execute("delete from generation_sessions")
    async with producer(settings) as app:
        with pytest.raises(WorkerError, match="the session is gone"):
            await anext(app.follow(parse(json.dumps(queued.message).encode()), 20))


class Deaf(Redis):
    """A client that never hears the answer to LPUSH."""

    meanwhile = staticmethod(lambda: None)
    takes = True

    async def lpush(self, name: str, *values: str) -> int:  # type: ignore[override]
        if self.takes:
            await super().lpush(name, *values)
        self.meanwhile()
        raise RedisConnectionError("connection lost")


@pytest.fixture
async def deaf(sandbox: Sandbox) -> AsyncIterator[Deaf]:
    async with Deaf(port=sandbox.redis.connection_pool.connection_kwargs["port"]) as client:
        yield client


@pytest.fixture(params=["user", "store", "shopper"])
def owner(sandbox: Sandbox, request: pytest.FixtureRequest) -> Owner:
    if request.param == "user":
        return Owner(Channel.B2C, UUID(sandbox.producer.user()))
    store = sandbox.producer.store(10)
    email = sandbox.producer.shopper(store, balance=10) if request.param == "shopper" else None
    return Owner(Channel.B2B, UUID(store), email)


def balance(sandbox: Sandbox, owner: Owner) -> int:
    return sandbox.balance(str(owner.id), *[owner.shopper_email] if owner.shopper_email else [])


async def test_an_erasure_of_the_owner_finds_the_uploaded_files(
    sandbox: Sandbox, settings: Settings, owner: Owner
) -> None:
    async with producer(settings) as app:
        message = await app.enqueue(owner, [File("a.jpg", b"a"), File("b.jpg", b"b")], {})
    folder = folders_of(owner.channel, owner.id)[0]
    names = {f"{folder}{message.session_id}/{number}" for number in range(2)}
    assert sandbox.gateway.paths(BUCKET) == names
    assert set(sandbox.database.value("select wearon_data_life_in_use($1, $2)", BUCKET, list(names))["in_use"]) == names


@pytest.mark.parametrize("takes", [True, False])
async def test_a_push_without_an_answer_is_refunded_once_and_never_made(
    sandbox: Sandbox, settings: Settings, sessions: Sessions, deaf: Deaf, owner: Owner, takes: bool
) -> None:
    deaf.takes = takes
    async with producer(settings) as app:
        app._redis = deaf
        with pytest.raises(EnqueueFailed, match="not queued, the credit went back: connection lost"):
            await app.enqueue(owner, PHOTOS, {})
    assert sandbox.redis.llen(keys.QUEUE) == takes
    [row] = sandbox.database.fetch(f"select id, status from {owner.channel.table}")
    assert row["status"] == "failed"
    assert balance(sandbox, owner) == 10
    start = await sessions.start(SessionRef(owner.channel, row["id"]), owner.id)
    assert (start.changed, start.status) == (False, "failed")


async def test_a_session_that_a_worker_has_completed_meanwhile_is_queued_and_paid(
    sandbox: Sandbox, settings: Settings, deaf: Deaf, owner: Owner
) -> None:
    deaf.meanwhile = lambda: sandbox.database.execute(f"update {owner.channel.table} set status = 'completed'")
    async with producer(settings) as app:
        app._redis = deaf
        await app.enqueue(owner, PHOTOS, {})
    assert balance(sandbox, owner) == 9


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
async def test_a_lost_answer_of_the_database_costs_one_credit_for_one_session(
    sandbox: Sandbox, settings: Settings, owner: Owner, kind: str
) -> None:
    sandbox.gateway.fault(kind, on="rpc/wearon_begin_session", times=1)
    async with producer(settings) as app:
        await app.enqueue(owner, PHOTOS, {})
    assert balance(sandbox, owner) == 9
    assert [row["status"] for row in sandbox.database.fetch(f"select status from {owner.channel.table}")] == ["queued"]
    assert sandbox.redis.llen(keys.QUEUE) == 1


async def test_an_answer_without_a_status_is_no_want_of_credit(
    sandbox: Sandbox, settings: Settings, owner: Owner
) -> None:
    sandbox.gateway.fault("replaced", on="rpc/wearon_begin_session", times=1, body={"message": "ok"})
    async with producer(settings) as app:
        await app.enqueue(owner, PHOTOS, {})
    assert balance(sandbox, owner) == 9
    assert sandbox.redis.llen(keys.QUEUE) == 1


async def test_a_database_that_is_away_spends_nothing_and_is_not_waited_for(
    sandbox: Sandbox, settings: Settings, owner: Owner
) -> None:
    sandbox.gateway.fault("unavailable", on="rpc/wearon_begin_session")
    async with producer(settings) as app:
        with pytest.raises(EnqueueFailed, match="not queued, no credit was spent"):
            await app.enqueue(owner, PHOTOS, {})
    assert balance(sandbox, owner) == 10


async def test_answers_that_stay_lost_are_told_with_the_session(
    sandbox: Sandbox, settings: Settings, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "_PATIENCE_SECONDS", 0.2)
    sandbox.gateway.fault("drop_after", on="rpc/wearon_begin_session")
    async with producer(settings) as app:
        with pytest.raises(EnqueueFailed, match=r"a credit was taken. A running worker refunds session [0-9a-f-]{36}"):
            await app.enqueue(owner, PHOTOS, {})
    assert balance(sandbox, owner) == 9
    [row] = sandbox.database.fetch(f"select status from {owner.channel.table}")
    assert row["status"] == "queued"


def test_a_command_that_is_killed_before_its_message_leaves_a_session_that_gives_the_credit_back(
    sandbox: Sandbox,
) -> None:
    user = sandbox.producer.user()
    sandbox.gateway.fault("drop_after", on="rpc/wearon_begin_session")
    photos = ["--person", str(PHOTOS[0]), "--garment", str(PHOTOS[1])]
    command = [sys.executable, "-m", "worker", "enqueue", *photos, "--user", user]
    process = subprocess.Popen(command, env={**os.environ, **sandbox.env()}, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: sandbox.balance(user) == 9, 60, "no credit was taken")
    finally:
        process.kill()
        process.wait(30)
    assert sandbox.redis.llen(keys.QUEUE) == 0
    failed = sandbox.database.fetch("select fail_generation('b2c', id, 'Sorry') as answer from generation_sessions")
    assert [row["answer"]["refund"] for row in failed] == ["user"]
    assert sandbox.balance(user) == 10


async def test_an_interrupt_parts_no_credit_from_its_session(
    sandbox: Sandbox, settings: Settings, owner: Owner
) -> None:
    """Ctrl-C cancels the command while the database works."""
    sandbox.gateway.fault("slow", on="rpc/wearon_begin_session", delay=0.5)
    async with producer(settings) as app:
        command = asyncio.create_task(app.enqueue(owner, PHOTOS, {}))
        await asyncio.sleep(0.3)
        command.cancel()
        with pytest.raises(EnqueueFailed, match=r"interrupted, but session [0-9a-f-]{36} is queued"):
            await command
    assert balance(sandbox, owner) == 9
    assert [row["status"] for row in sandbox.database.fetch(f"select status from {owner.channel.table}")] == ["queued"]
    assert sandbox.redis.llen(keys.QUEUE) == 1


async def test_a_database_that_stays_away_is_told_with_the_session(
    sandbox: Sandbox, settings: Settings, deaf: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "_PATIENCE_SECONDS", 0.2)
    user = Owner(Channel.B2C, UUID(sandbox.producer.user()))

    def database_away() -> None:
        sandbox.gateway.fault("unavailable")

    deaf.meanwhile = database_away
    async with producer(settings) as app:
        app._redis = deaf
        with pytest.raises(
            EnqueueFailed,
            match=r"has not come back yet: .* A running worker refunds session [0-9a-f-]{36} within minutes; "
            "if there is none, give back by hand what the ledger shows of it",
        ):
            await app.enqueue(user, PHOTOS, {})
