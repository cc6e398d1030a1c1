"""The messages of one region's Redis, moved to another region's: for a region whose workers are gone.

Each message is copied first and removed afterwards, so that a crash loses none. The target remembers what one move has
copied, so that a repeated move copies nothing twice.
"""

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from redis.asyncio import Redis

from worker.errors import InvalidMessage, WorkerError
from worker.generation import keys
from worker.generation.bulk.manifest import manifest_of
from worker.generation.bulk.record import Record
from worker.generation.channel import Channel, SessionRef
from worker.generation.message import parse
from worker.generation.pauses.pauses import Pauses
from worker.generation.queue.claims import Claims
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.queue.envelope import identify
from worker.generation.room import insist

#: Messages of one round.
_BATCH = 50
_REMEMBERED_SECONDS = 7 * 86_400
_MARK_SECONDS = 86_400
#: At the target. KEYS: queue, digests that this move has copied, the session's mark. ARGV: message, digest, mark,
#: seconds of the mark, seconds of the digests.
_COPY = """
redis.call('PERSIST', KEYS[1])
if redis.call('SISMEMBER', KEYS[2], ARGV[2]) == 1 then return 0 end
if KEYS[3] and ARGV[3] ~= '' and redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4])
end
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[5])
return 1
"""
#: At the source. KEYS: queue, the session's mark. ARGV: message.
_REMOVE = """
redis.call('LREM', KEYS[1], -1, ARGV[1])
if KEYS[2] then redis.call('DEL', KEYS[2]) end
"""


class CannotMove(WorkerError):
    """The source is in use, or is the target."""


@dataclass
class Moved:
    """Messages, outcomes and dead letters that waited at the source, and messages that were copied."""

    waiting: int = 0
    claimed: int = 0
    outcomes: int = 0
    dead_letters: int = 0
    copied: int = 0


class QueueMove:
    """`run` may end at any moment, and be repeated. `take` makes sessions the target region's."""

    def __init__(
        self,
        source: Redis,
        target: Redis,
        take: Callable[[list[SessionRef]], Awaitable[object]],
        dead_letter_limits: tuple[int, int],
    ) -> None:
        self._source: Any = source  # redis-py's annotations know only text
        self._target: Any = target
        self._take = take
        self._claims = Claims(source, "move", 30)
        self._dead, self._dead_there = (DeadLetters(redis, *dead_letter_limits) for redis in (source, target))
        self._copy = target.register_script(_COPY)
        self._remove = source.register_script(_REMOVE)
        self._joined = set[str]()

    async def look(self) -> Moved:
        """Count what a move would move; raises CannotMove while a worker lives at the source."""
        instances = await self._claims.instances()
        if living := [instance.name for instance in instances if instance.alive]:
            raise CannotMove(f"{len(living)} workers of the source live, such as {living[0]}: stop them first")
        claimed = [await self._claims.of(instance.name).count() for instance in instances]
        outcomes = [await self._source.hlen(name) for name in (keys.SETTLEMENTS, keys.REJECTED)]
        dead = await self._source.llen(keys.DEAD)
        return Moved(await self._claims.lanes.waiting(), sum(claimed), sum(outcomes), dead)

    async def run(self, on_progress: Callable[[int], None] = lambda copied: None) -> Moved:
        """Move everything; the source's intake stays paused."""
        moved = await self.look()
        await Pauses(self._source).stop("queue moved to another region")
        await self.look()  # a worker that has started meanwhile may have taken a message before the pause
        move = await self._begin()
        for name in (keys.SETTLEMENTS, keys.REJECTED):
            await self._outcomes(name)
        for instance in await self._claims.instances():
            await self._claims.of(instance.name).requeue_all()
        while await self._claims.lanes.merge():
            pass
        while batch := await self._source.lrange(keys.QUEUE, -_BATCH, -1):
            moved.copied += await self._batch(move, list(reversed(batch)))
            on_progress(moved.copied)
        await self._dead_letters()
        await self._source.delete(keys.MOVE, keys.BULK_SESSIONS)
        return moved

    async def _begin(self) -> str:
        """Return the name of this move; an interrupted move keeps its name."""
        await insist(self._source, "SET", keys.MOVE, uuid4().hex, "NX")
        return str((await self._source.get(keys.MOVE)).decode())

    async def _outcomes(self, name: str) -> None:
        for session_id, kept in (await self._source.hgetall(name)).items():
            await self._target.hsetnx(name, session_id, kept)
            with suppress(ValueError):  # the name of an odd entry
                # An entry that was rejected may not tell its channel.
                await self._take([SessionRef(channel, UUID(session_id.decode())) for channel in Channel])
            await self._source.hdel(name, session_id)

    async def _dead_letters(self) -> None:
        async for letter in self._dead.oldest_first():
            await self._dead_there.drop(letter)  # an interrupted move has copied the letter
            await self._dead_there.keep(letter)
            await self._dead.drop(letter)

    async def _batch(self, move: str, messages: list[bytes]) -> int:
        sessions = [identify(message) for message in messages]
        held = [session for session in sessions if session and await self._source.exists(keys.lease(session.id))]
        if held:
            raise CannotMove(f"the lease of session {held[0].id} has not run out; repeat in half a minute")
        # A manifest's cancellation before its messages: a worker ends the cancelled row whose message it takes.
        for manifest in {_manifest(message) for message in messages} - {"", *self._joined}:
            await Record(self._target).join(manifest, Record(self._source))
            self._joined.add(manifest)
        copied = 0
        for message, session in zip(messages, sessions, strict=True):
            copied += await self._copy_one(move, message, session)
        if known := [session for session in sessions if session]:
            await self._take(known)
        for message, session in zip(messages, sessions, strict=True):
            marks = [keys.begun(session.id)] if session else []
            await self._remove(keys=[keys.QUEUE, *marks], args=[message])
        return copied

    async def _copy_one(self, move: str, message: bytes, session: SessionRef | None) -> int:
        mark = (await self._source.get(keys.begun(session.id)) or b"") if session else b""
        names = [keys.QUEUE, keys.moved(move), *([keys.begun(session.id)] if session else [])]
        digest = hashlib.sha256(message).hexdigest()
        return int(await self._copy(keys=names, args=[message, digest, mark, _MARK_SECONDS, _REMEMBERED_SECONDS]))


def _manifest(message: bytes) -> str:
    """Id of the manifest that the message is a row of, empty if there is none."""
    if b'"bulk"' in message:
        with suppress(InvalidMessage):
            return manifest_of(parse(message))
    return ""
