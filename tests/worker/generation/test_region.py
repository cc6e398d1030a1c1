"""Regions on one database, each with its own Redis: no region ends another's sessions."""

import json
from collections.abc import AsyncIterator, Callable
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import httpx
import pytest
from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued
from worker import clients
from worker.errors import ServiceUnavailable, WorkerLost
from worker.generation import keys
from worker.generation.audit.proof import audit
from worker.generation.bulk.manifest import Manifest, Row
from worker.generation.bulk.record import Record
from worker.generation.channel import Channel, SessionRef
from worker.generation.outcome import Outcome
from worker.generation.pauses.pauses import Pauses
from worker.generation.queue.claims import Claims
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.queue_move import CannotMove, QueueMove
from worker.generation.region import SILENT_SECONDS, SILENT_SESSIONS, Region
from worker.generation.sessions.leases import Leases
from worker.generation.sessions.marks import Stage
from worker.generation.sessions.ownership import Ownership
from worker.generation.sessions.rejected import Rejected
from worker.generation.sessions.sessions import Sessions
from worker.generation.sessions.settlement import Settlement
from worker.generation.sweep.open_sessions import OwnSessions
from worker.generation.sweep.stuck import Stuck
from worker.settings import Settings

#: Of dead letters: their number and bytes.
LETTERS = 1000, 8 * 1024 * 1024


class Side:
    """One region: a database of the sandbox's Valkey of its own."""

    def __init__(self, redis: Redis, database: AsyncPostgrestClient, settings: Settings) -> None:
        self.redis, self.database, self.region = redis, database, Region(redis, database, settings)
        self.sessions = Sessions(database, self.region)
        self.stuck = Stuck(
            settings,
            claims=Claims(redis, "one", 30),
            ownership=Ownership(redis),
            pauses=Pauses(redis),
            sessions=OwnSessions(self.region),
            settlement=Settlement(redis, self.sessions),
        )

    async def report(self) -> None:
        await self.region.report(empty=await Claims(self.redis, "one", 30).are_all_empty())

    async def found(self) -> dict[str, str]:
        """Session id to the reason of its end."""
        return {str(stuck.session.id): stuck.error.reason for stuck in await self.stuck.find()}


Make = Callable[..., Side]


@pytest.fixture
async def make(sandbox: Sandbox, settings: Settings) -> AsyncIterator[Make]:
    """A function that makes a region; its number is the database of its Redis."""
    opened: list[Redis] = []
    async with httpx.AsyncClient(timeout=5) as http:
        database = clients.database_client(settings, http)

        def side(name: str, number: int, **changed: object) -> Side:
            url = sandbox.redis_url.removesuffix("/0") + f"/{number}"
            mine = settings.model_copy(update={"redis_url": url, "region": name, **changed})
            opened.append(clients.redis_client(mine))
            return Side(opened[-1], database, mine)

        yield side
        for redis in opened:
            await redis.aclose()


def ref(queued: Queued) -> SessionRef:
    return SessionRef(Channel.B2B if queued.channel == "b2b" else Channel.B2C, UUID(queued.session_id))


def age(sandbox: Sandbox, queued: Queued, minutes: float) -> None:
    table = "store_generation_sessions" if queued.channel == "b2b" else "generation_sessions"
    sql = f"update {table} set created_at = now() - $2 * interval '1 minute' where id = $1"
    sandbox.database.execute(sql, queued.session_id, minutes)


async def started(sandbox: Sandbox, side: Side, *, b2b: bool = False) -> Queued:
    queued = sandbox.producer.b2b(push=False) if b2b else sandbox.producer.b2c(push=False)
    assert (await side.sessions.start(ref(queued), UUID(queued.owner_id))).changed
    return queued


@pytest.mark.parametrize("b2b", [True, False])
@pytest.mark.parametrize(("requeued", "reason"), [(False, "worker_lost"), (True, "orphaned")])
async def test_a_session_is_ended_by_the_region_that_started_it_alone(
    sandbox: Sandbox, make: Make, b2b: bool, requeued: bool, reason: str
) -> None:
    eu, us = make("eu", 1), make("us", 2, sweep_orphans=True)
    queued = await started(sandbox, eu, b2b=b2b)
    if requeued:
        assert (await eu.sessions.requeue(ref(queued))).changed
    age(sandbox, queued, 300)
    for side in (eu, us):
        await side.report()
    assert await us.found() == {}
    assert await eu.found() == {queued.session_id: reason}


async def test_a_session_of_no_region_is_ended_by_one_region_and_not_while_another_is_silent(
    sandbox: Sandbox, make: Make
) -> None:
    eu, us = make("eu", 1), make("us", 2, sweep_orphans=True)
    await eu.report()
    queued = sandbox.producer.b2c(push=False)
    age(sandbox, queued, 63)
    sandbox.database.execute("update wearon.regions set seen_at = now() - interval '2 hours', empty_at = null")
    await us.report()
    assert await us.found() == {}
    await eu.report()
    assert await eu.found() == {}
    assert await us.found() == {queued.session_id: "orphaned"}


async def test_a_region_whose_messages_never_expire_keeps_orphans_open_while_it_has_one(
    sandbox: Sandbox, make: Make
) -> None:
    eu, us = make("eu", 1, message_ttl_seconds=0), make("us", 2, sweep_orphans=True)
    queued = sandbox.producer.b2c(push=False)
    age(sandbox, queued, 600)
    await eu.redis.lpush(keys.QUEUE, "{}")
    await eu.report()
    await us.report()
    assert await us.found() == {}
    await eu.redis.delete(keys.QUEUE)
    await eu.report()
    assert await us.found() == {queued.session_id: "orphaned"}


@pytest.mark.parametrize("taken", [False, True])
async def test_a_session_of_bulk_that_waits_in_another_region_is_not_ended_before_the_time_of_bulk(
    sandbox: Sandbox, make: Make, taken: bool
) -> None:
    eu, us = make("eu", 1), make("us", 2, sweep_orphans=True)
    queued = sandbox.producer.b2b(push=False)
    for _ in range(2):
        await eu.redis.lpush(keys.QUEUE, json.dumps(queued.message | {"priority": "bulk"}))
    if taken:
        claims = Claims(eu.redis, "one", 30)
        await claims.heartbeat()
        assert len([await claims.take(1) for _ in range(2)]) == 2
        await eu.redis.delete(keys.QUEUE)
    assert await eu.redis.exists(keys.BULK_SESSIONS if taken else keys.QUEUE) == 1
    age(sandbox, queued, 23 * 60)
    for side in (eu, us):
        await side.report()
    assert await us.found() == {}
    age(sandbox, queued, 25 * 60)
    assert await us.found() == {queued.session_id: "orphaned"}


async def test_a_new_name_changes_nothing_and_two_regions_of_one_name_do_not_mix(sandbox: Sandbox, make: Make) -> None:
    eu, twin = make("eu", 1), make("eu", 2, sweep_orphans=True)
    queued = await started(sandbox, eu)
    age(sandbox, queued, 300)
    for side in (eu, twin):
        await side.report()
    assert await twin.found() == {}
    renamed = make("europe", 1)
    await renamed.report()
    assert await renamed.found() == {queued.session_id: "worker_lost"}


async def test_the_audit_of_one_region_does_not_call_the_sessions_of_another_stuck(
    sandbox: Sandbox, make: Make
) -> None:
    eu, us = make("eu", 1), make("us", 2)
    queued = await started(sandbox, eu)
    await Leases(eu.redis, "worker", 30).acquire(UUID(queued.session_id))
    age(sandbox, queued, 30)
    report = await audit(us.database, us.redis, everything=True, region=us.region)
    assert report.counts["stuck"] == 0
    await eu.redis.delete(keys.lease(queued.session_id))
    report = await audit(eu.database, eu.redis, everything=True, region=eu.region)
    assert report.counts["stuck"] == 1


async def test_events_name_the_region(sandbox: Sandbox, make: Make) -> None:
    eu = make("eu", 1)
    queued = await started(sandbox, eu)
    await eu.sessions.fail(ref(queued), "Sorry", None)
    region = sandbox.database.value(
        "select metadata ->> 'region' from analytics_events where user_id = $1", queued.owner_id
    )
    assert region == "eu"


async def test_open_sessions_of_a_silent_region_are_counted_until_it_reports_again(
    sandbox: Sandbox, make: Make
) -> None:
    eu, us = make("eu", 0), make("us", 2)
    queued = sandbox.producer.b2c(push=False)
    await eu.region.report(empty=False)
    await us.region.report(empty=True)
    assert (await eu.sessions.start(SessionRef(Channel.B2C, UUID(queued.session_id)), UUID(queued.owner_id))).changed

    def counted() -> float:
        return SILENT_SESSIONS._value.get()  # type: ignore[no-any-return]

    await us.region.watch()
    assert counted() == 0
    sandbox.database.execute(
        f"update wearon.regions set seen_at = now() - interval '{SILENT_SECONDS + 1} s' where name = 'eu'"
    )
    await us.region.watch()  # looked a moment ago
    assert counted() == 0
    us.region.looked_at -= 60
    with capture_logs() as logs:
        await us.region.watch()
    assert (counted(), [entry["event"] for entry in logs]) == (1, ["silent_region_found"])
    us.region.looked_at -= 60
    await eu.region.report(empty=False)
    await us.region.watch()
    assert counted() == 0


@pytest.mark.parametrize(("minutes", "held"), [(120, 0), (68, 1), (60, 0)])
async def test_sessions_that_a_silent_region_may_have_are_counted_once_they_would_be_ended(
    sandbox: Sandbox, make: Make, minutes: float, held: int
) -> None:
    """They end an hour after they were made (with 2 minutes for the row); the region is silent for 10 minutes."""
    eu, us = make("eu", 1), make("us", 2, sweep_orphans=True)
    queued = sandbox.producer.b2c()
    age(sandbox, queued, minutes)
    await eu.region.report(empty=False)
    sandbox.database.execute("update wearon.regions set seen_at = now() - interval '10 minutes'")
    await us.report()
    assert {row["name"]: row["open"] for row in await us.region.all()} == {"eu": held, "us": 0}
    if held:
        assert await us.found() == {}
        assert await us.region.adopt(await eu.region.id()) == 0
        assert await us.found() == {queued.session_id: "orphaned"}


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "294276-12-31 23:59", "4713-01-01 BC"])
async def test_a_session_of_an_impossible_date_hides_no_region(sandbox: Sandbox, make: Make, moment: str) -> None:
    eu, us = make("eu", 1), make("us", 2, sweep_orphans=True)
    queued, stuck = sandbox.producer.b2c(push=False), sandbox.producer.b2c(push=False)
    sandbox.database.execute(f"update generation_sessions set created_at = '{moment}' where id = $1", queued.session_id)
    age(sandbox, stuck, 180)
    await eu.report()
    sandbox.database.execute("update wearon.regions set seen_at = now() - interval '10 minutes'")
    await us.report()
    assert {row["name"] for row in await us.region.all()} == {"eu", "us"}
    assert stuck.session_id in await us.found()


async def test_the_sessions_of_a_region_can_be_taken_over_only_once_it_is_silent(sandbox: Sandbox, make: Make) -> None:
    eu, us = make("eu", 1), make("us", 2)
    queued = await started(sandbox, eu)
    age(sandbox, queued, 300)
    for side in (eu, us):
        await side.report()
    source = await eu.region.id()
    assert await us.region.adopt(source) is None
    sandbox.database.execute("update wearon.regions set seen_at = now() - interval '1 hour'")
    assert await us.region.adopt(await us.region.id()) is None
    assert await us.region.adopt(str(uuid4())) is None
    assert await us.region.adopt(source) == 1
    assert await us.found() == {queued.session_id: "worker_lost"}


async def test_an_interrupted_move_of_the_queue_loses_no_message_and_copies_none_twice(
    sandbox: Sandbox, make: Make
) -> None:
    eu, us = make("eu", 0), make("us", 2)
    queued = [sandbox.producer.b2c() for _ in range(4)]
    dead = Claims(eu.redis, "dead", 30)
    await dead.heartbeat()
    claimed = await dead.take(1)
    assert claimed
    session = SessionRef(Channel.B2C, UUID(queued[0].session_id))
    leases = Leases(eu.redis, "dead", 30)
    lease = await leases.acquire(session.id)
    assert lease
    await leases.note(lease, Stage.CALLING)
    assert (await eu.sessions.start(session, UUID(queued[0].owner_id))).changed
    ended = SessionRef(Channel.B2C, UUID(sandbox.producer.b2c(push=False).session_id))
    await Settlement(eu.redis, eu.sessions).defer(Outcome.failed(ended, WorkerLost("gone")))

    letter = await DeadLetters(eu.redis, *LETTERS).add(b"{", "not_json", "test")

    move = QueueMove(eu.redis, us.redis, us.region.take, LETTERS)
    with pytest.raises(CannotMove, match="stop them first"):
        await move.run()
    await dead.abandon()
    with pytest.raises(CannotMove, match="lease"):
        await move.run()
    await eu.redis.delete(keys.lease(session.id))
    take = AsyncMock(side_effect=ServiceUnavailable("the command is killed here"))
    with pytest.raises(ServiceUnavailable):
        await QueueMove(eu.redis, us.redis, take, LETTERS).run()
    assert await eu.redis.llen(keys.QUEUE) == await us.redis.llen(keys.QUEUE) == 4
    assert (await move.run()).copied == 0

    messages = await us.redis.lrange(keys.QUEUE, 0, -1)
    assert [json.loads(message)["session_id"] for message in reversed(messages)] == [one.session_id for one in queued]
    assert await eu.redis.llen(keys.QUEUE) == await eu.redis.exists(keys.begun(session.id), keys.SETTLEMENTS) == 0
    mark = await us.redis.get(keys.begun(session.id))
    assert isinstance(mark, bytes)
    assert mark.startswith(b"calling")
    assert await us.redis.hkeys(keys.SETTLEMENTS) == [str(ended.id).encode()]
    assert [row["id"] for row in await us.region.open(["processing"])] == [str(session.id)]
    assert await us.redis.lrange(keys.DEAD, 0, -1) == [letter.item]
    assert await eu.redis.exists(keys.DEAD, keys.DEAD_BYTES) == 0
    assert await eu.redis.get(keys.INTAKE_STOPPED)


async def test_a_move_empties_a_full_redis(make: Make, full: Callable[[], None]) -> None:
    eu, us = make("eu", 0), make("us", 2)
    dead = Claims(eu.redis, "dead", 30)
    await dead.heartbeat()
    await eu.redis.lpush(keys.QUEUE, *(b"{%d" % number for number in range(3)))
    assert await dead.take(1) == b"{0"
    assert await dead.lanes.sort() == 0
    await dead.abandon()
    full()
    assert (await QueueMove(eu.redis, us.redis, us.region.take, LETTERS).run()).copied == 3
    assert await eu.redis.llen(keys.QUEUE) == 0


@pytest.mark.parametrize("rejected", [False, True])
async def test_a_session_goes_with_its_moved_outcome(sandbox: Sandbox, make: Make, rejected: bool) -> None:
    """Else the source, once it is back, would end the session that it knows no outcome of any more."""
    eu, us = make("eu", 0), make("us", 2)
    queued = await started(sandbox, eu)
    age(sandbox, queued, 300)
    await Settlement(eu.redis, eu.sessions).defer(outcome := Outcome.failed(ref(queued), WorkerLost("gone")))
    if rejected:
        await Rejected(eu.redis).add(queued.session_id, outcome.model_dump_json(), "refused")
    await QueueMove(eu.redis, us.redis, us.region.take, LETTERS).run()
    assert await eu.found() == await us.found() == {}
    assert [row["id"] for row in await us.region.open(["processing"])] == [queued.session_id]


async def test_a_cancelled_manifest_stays_cancelled_where_its_messages_are_moved_to(make: Make) -> None:
    """A worker had a row while the manifest was cancelled, and died."""
    eu, us = make("eu", 0), make("us", 2)
    urls = ("https://a.example/1.jpg", "https://a.example/2.jpg")
    for name in ("kept", "cancelled"):
        manifest = Manifest(uuid4(), name, "", [row := Row(1, 1, urls, "", "")])
        await eu.redis.lpush(keys.QUEUE, manifest.message(row).model_dump_json(exclude_none=True))
    await Record(eu.redis).cancel("cancelled")
    assert (await QueueMove(eu.redis, us.redis, us.region.take, LETTERS).run()).copied == 2
    assert [await Record(us.redis).is_cancelled(name) for name in ("kept", "cancelled")] == [False, True]


async def test_a_manifest_goes_along_with_its_messages(make: Make) -> None:
    """Its rows are cancelled where they are, and no row of it is pushed a second time."""
    eu, us = make("eu", 0), make("us", 2)
    urls = ("https://a.example/1.jpg", "https://a.example/2.jpg")
    rows = [Row(number, number, urls, "", f"dress-{number}") for number in (1, 2, 3)]
    moved, other = (Manifest(uuid4(), "catalogue", digest, rows) for digest in ("moved", "other"))
    messages = {row.number: moved.message(row).model_dump_json(exclude_none=True).encode() for row in rows}
    here, there = Record(eu.redis), Record(us.redis)
    await here.begin(moved)
    assert await here.push(moved.id, {number: messages[number] for number in (1, 2)}) == 2
    await eu.redis.sadd(keys.bulk_taken(moved.id), "taken")
    await QueueMove(eu.redis, us.redis, us.region.take, LETTERS).run()
    assert await there.find(moved.id) == await here.find(moved.id)
    assert (await there.pushed(moved.id), await there.taken(moved.id)) == ({1, 2}, {"taken"})
    assert await there.push(moved.id, messages) == 1
    assert await us.redis.ttl(keys.bulk_pushed(moved.id)) > 0

    await us.redis.flushdb()
    await there.begin(other)
    await here.cancel(moved.id)
    await eu.redis.lpush(keys.QUEUE, messages[1])
    await QueueMove(eu.redis, us.redis, us.region.take, LETTERS).run()
    assert (await there.find(moved.id)).digest == "other"
    assert (await there.pushed(moved.id), await there.is_cancelled(moved.id)) == (set(), False)


async def test_a_manifest_goes_along_once_however_many_messages_it_has(make: Make) -> None:
    """A batch has 50 messages, and a manifest up to 50 000 rows: each costs a command of the target."""
    eu, us = make("eu", 0), make("us", 2)
    urls = ("https://a.example/1.jpg", "https://a.example/2.jpg")
    rows = [Row(number, number, urls, "", f"dress-{number}") for number in range(1, 121)]
    manifest = Manifest(uuid4(), "catalogue", "digest", rows)
    await Record(eu.redis).begin(manifest)
    messages = {row.number: manifest.message(row).model_dump_json(exclude_none=True).encode() for row in rows}
    await Record(eu.redis).push(manifest.id, messages)
    before = (await us.redis.info("commandstats"))["cmdstat_setbit"]["calls"]
    assert (await QueueMove(eu.redis, us.redis, us.region.take, LETTERS).run()).copied == 120
    assert (await us.redis.info("commandstats"))["cmdstat_setbit"]["calls"] == before + 120
