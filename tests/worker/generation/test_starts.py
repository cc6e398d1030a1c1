"""How a session starts whose worker has vanished; whole kills are in tests/chaos."""

from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from tests.sandbox import Sandbox
from worker.generation import keys
from worker.generation.expiry import Expiry
from worker.generation.leases import Leases
from worker.generation.marks import Stage
from worker.generation.message import GenerationMessage
from worker.generation.pauses import Pauses
from worker.generation.run import Run
from worker.generation.sessions import Sessions
from worker.generation.settlement import Settlement
from worker.generation.starts import Starts
from worker.settings import Settings


async def test_a_picture_that_a_vanished_worker_paid_for_is_rescued_however_old_its_message_is(
    sandbox: Sandbox, settings: Settings, redis: Redis, sessions: Sessions
) -> None:
    queued = sandbox.producer.b2c(push=False)
    old = datetime.now(UTC) - timedelta(hours=2)
    message = GenerationMessage(**{**queued.message, "created_at": old.isoformat()})
    vanished = Leases(redis, "vanished", 30)
    lease = await vanished.acquire(message.session_id)
    assert lease
    await sessions.start(message.session, message.owner_id)
    await vanished.note(lease, Stage.PAID)
    await redis.delete(keys.lease(message.session_id))
    leases = Leases(redis, "next", 30)
    starts = Starts(sessions, leases, Settlement(redis, sessions), Expiry(Pauses(redis), settings))
    again = await leases.acquire(message.session_id)
    assert again
    assert await starts.start(Run(message, again)) is False
