"""Open sessions that no worker will end. Decision: docs/decisions/0013-sessions-of-others.md.

No message is read to find them: a session's marks in Redis and its age tell enough, however long the queue is.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.errors import GenerationError, MessageExpired, Orphaned, WorkerLost
from worker.generation.channel import Channel
from worker.generation.pauses.pauses import Pauses
from worker.generation.queue.claims import Claims
from worker.generation.sessions.ownership import Ownership
from worker.generation.sessions.settlement import Settlement
from worker.generation.sweep.open_sessions import AllSessions, OpenSession, OwnSessions
from worker.settings import Settings

#: Sessions of one channel that one look ends at most; the next look goes on.
_BATCH = 500
#: A session's row may be so much older than its message.
_INSERT_SECONDS = 120.0
#: Many thousands of old sessions may wait as bulk: a read of them that takes long rests for so many times as long.
_LONG_SECONDS, _REST = 1.0, 20
#: Without a time to live, sessions that no message here accounts for still end.
_ORPHAN_SECONDS = 600.0


@dataclass(frozen=True)
class StuckSession:
    """A session to be ended, and the error to end it with."""

    session: OpenSession
    error: GenerationError


class Stuck:
    """Sessions of workers on another Redis are left alone until their deadline; `OwnSessions` never has them."""

    def __init__(
        self,
        settings: Settings,
        *,
        claims: Claims,
        ownership: Ownership,
        pauses: Pauses,
        sessions: AllSessions | OwnSessions,
        settlement: Settlement,
    ) -> None:
        self._limit = settings.message_ttl_seconds
        self._most = max(settings.message_ttl_max_seconds, settings.message_ttl_seconds)
        self._bulk_limit = settings.bulk_ttl_seconds
        self._grace = settings.orphan_grace_seconds
        self._claims = claims
        self._ownership = ownership
        self._pauses = pauses
        self._sessions = sessions
        self._settlement = settlement
        self._reads_old, self._read_again_at = True, 0.0

    async def find(self) -> list[StuckSession]:
        """All stuck sessions, up to a limit."""
        self._reads_old = time.monotonic() >= self._read_again_at
        found = await self._look()
        if found:
            # A session that moved on between two of the questions looks stuck for a moment.
            again = {stuck.session for stuck in await self._look()}
            found = [stuck for stuck in found if stuck.session in again]
        return found

    async def _look(self) -> list[StuckSession]:
        return [*await self._lost(), *await self._unstarted()]

    async def _lost(self) -> list[StuckSession]:
        """Sessions in "processing" whose worker is gone."""
        # The database first: a session that moves on meanwhile then counts as accounted for, or has ended by itself.
        candidates = await self._sessions.open(["processing"])
        marks = await self._ownership.marks([session.id for session in candidates])
        deadline = self._before(max(self._most, _ORPHAN_SECONDS))
        free = [session for session in candidates if not marks[session.id].held]
        lost = await self._without_bulk([session for session in free if session.is_older_than(deadline)])
        if any(marks[session.id].started for session in free) and await self._claims.are_all_empty():
            # With its message, a marked session is ended by the worker that takes the message: see `marks`.
            lost = [session for session in free if marks[session.id].started or session in lost]
        return [StuckSession(session, WorkerLost("no worker has it")) for session in await self._unsettled(lost)]

    async def _unstarted(self) -> list[StuckSession]:
        """Sessions that wait for a message that will not come, or that comes too late."""
        grace = self._grace if self._grace is not None else self._limit or _ORPHAN_SECONDS
        waiting = await self._queued(grace)
        if not waiting:
            return []
        if await self._claims.are_all_empty():
            error: GenerationError = Orphaned("no message for it")
            waiting = waiting if self._grace is not None else await self._without_pauses(waiting, grace)
        elif self._limit and self._reads_old:
            # One of the messages may be this session's. It is not used any more after this time.
            error = MessageExpired(f"it waited for {self._most} s")
            waiting = await self._without_bulk(await self._old())
        else:
            return []
        marks = await self._ownership.marks([session.id for session in waiting])
        free = [session for session in waiting if not marks[session.id].held]
        return [StuckSession(session, error) for session in await self._unsettled(free)]

    async def _queued(self, seconds: float, most: int | None = _BATCH) -> list[OpenSession]:
        return await self._sessions.open(["queued", "pending"], self._before(seconds), most)

    async def _old(self) -> list[OpenSession]:
        """Sessions whose message is too old, with those of bulk among them."""
        began_at = time.monotonic()
        old = await self._queued(self._most + _INSERT_SECONDS, None)
        seconds = time.monotonic() - began_at
        if seconds > _LONG_SECONDS:
            self._read_again_at = time.monotonic() + _REST * seconds
        return old

    async def _without_bulk(self, sessions: list[OpenSession]) -> list[OpenSession]:
        """Sessions without those of bulk, which have more time."""
        deadline = self._before(self._bulk_limit + _INSERT_SECONDS)
        old = {session for session in sessions if session.is_older_than(deadline)}
        if sessions and await self._claims.lanes.sort():
            # A message that is not sorted yet may be bulk, of any store.
            bulk = {session.id for session in sessions if session.channel is Channel.B2B}
        else:
            bulk = await self._claims.lanes.bulk([session.id for session in sessions])
        return [session for session in sessions if session.id not in bulk or session in old]

    async def _without_pauses(self, sessions: list[OpenSession], seconds: float) -> list[OpenSession]:
        """Sessions that are older than `seconds` when pauses of the intake do not count."""
        times = await self._pauses.times()
        old = []
        for session in sessions:
            made = session.created_at.timestamp() if session.created_at else times.now
            if times.now - made - times.paused_since(made) > seconds:
                old.append(session)
        return old

    async def _unsettled(self, sessions: list[OpenSession]) -> list[OpenSession]:
        """Sessions whose end is not known; a known end only has to be written."""
        known = await self._settlement.known([session.id for session in sessions])
        return [session for session in sessions if session.id not in known]

    @staticmethod
    def _before(seconds: float) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=seconds)
