"""Following a session while the database is away for a moment, and when the session is gone."""

import json

import pytest

from tests.sandbox import Sandbox
from worker.errors import WorkerError
from worker.generation.message import parse
from worker.generation.queue.producer import producer
from worker.settings import Settings


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
