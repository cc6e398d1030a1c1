"""Ends what waits of a manifest: the message is taken away first, then the session is failed with its refund.

A generation that runs is left alone: its picture may be paid for.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from worker.errors import Cancelled
from worker.generation import keys
from worker.generation.bulk.books import NOT_QUEUED, PAGE, Books
from worker.generation.bulk.manifest import request_id_of, session_id_of
from worker.generation.bulk.record import Record, Submitted
from worker.generation.channel import Channel, SessionRef
from worker.generation.queue.envelope import correlation
from worker.generation.queue.lane_scripts import BULK
from worker.generation.sessions.sessions import Sessions

#: An interrupted cancellation can be repeated for so long.
_TAKEN_SECONDS = 30 * 24 * 3600
#: Messages in memory at once.
_MESSAGES = 100

#: KEYS: queue, messages of lanes, sessions of bulk, taken, the session's lease and mark. ARGV: message, member of the
#: lane (empty: it is in the queue), session, seconds. The session is noted in the same step: a command that dies here
#: leaves it to the next command. The message stays if a worker has the session, or a dead worker may have paid for it.
_TAKE = """
local mark = redis.call('GET', KEYS[6])
if redis.call('EXISTS', KEYS[5]) == 1 or mark and string.sub(mark, 1, 8) ~= 'started ' then return 0 end
local queued = ARGV[2] == ''
local gone = queued and redis.call('LREM', KEYS[1], 1, ARGV[1]) or not queued and redis.call('ZREM', KEYS[2], ARGV[2])
if gone == 0 then return 0 end
redis.call('ZREM', KEYS[3], ARGV[3])
redis.call('DEL', KEYS[6]) -- a worker that only stood still goes no further
redis.call('SADD', KEYS[4], ARGV[3])
redis.call('EXPIRE', KEYS[4], ARGV[4])
return 1
"""


class Cancellation:
    """Cancels a manifest. May be repeated; raises what Redis raises and ServiceUnavailable."""

    def __init__(self, redis: Redis, record: Record, books: Books, sessions: Sessions) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text
        self._record = record
        self._books = books
        self._sessions = sessions
        self._take = redis.register_script(_TAKE)

    async def run(self, submitted: Submitted, on_progress: Callable[[int], None]) -> Counter[str]:
        """Cancel. Return the number of rows by their session's status, `cancelled`, or `not_queued`."""
        await self._record.cancel(submitted.id)
        sessions = {str(session_id_of(submitted.store_id, submitted.id, n)) for n in range(1, submitted.rows + 1)}
        while await self._take_messages(submitted, sessions):
            pass  # workers move messages meanwhile
        taken = await self._record.taken(submitted.id)
        pushed = await self._record.pushed(submitted.id)
        count = Counter[str]()
        for first in range(1, submitted.rows + 1, PAGE):
            page = range(first, min(first + PAGE, submitted.rows + 1))
            ids = {number: session_id_of(submitted.store_id, submitted.id, number) for number in page}
            rows = await self._books.sessions(list(ids.values()))
            for number, session_id in ids.items():
                row = rows.get(session_id)
                status = row["status"] if row else NOT_QUEUED
                # Of a worker that is gone: "processing".
                ours = str(session_id) in taken and status in ("queued", "processing")
                if ours or (status == "queued" and number not in pushed):
                    await self._fail(SessionRef(Channel.B2B, session_id), request_id_of(submitted.id, number))
                    status = "cancelled"
                count[status] += 1
            on_progress(sum(count.values()))
        return count

    async def _fail(self, session: SessionRef, request_id: str) -> None:
        facts = {"request_id": request_id, "reason": Cancelled.reason, "priority": "bulk"}
        await self._sessions.fail(session, Cancelled.user_message, None, facts)

    async def _take_messages(self, submitted: Submitted, sessions: set[str]) -> int:
        """Take the manifest's waiting messages out of the queue and of the lane. Return their number."""
        taken = seen = 0
        while messages := await self._redis.lrange(keys.QUEUE, seen, seen + _MESSAGES - 1):
            gone = sum([await self._take_one(submitted, sessions, message, b"") for message in messages])
            taken, seen = taken + gone, seen + len(messages) - gone
        lane = f"{BULK}{submitted.store_id}"
        after: bytes | str = f"[{lane}:"
        while members := await self._redis.zrangebylex(keys.LANES_MESSAGES, after, f"({lane};", 0, _MESSAGES):
            taken += sum([await self._take_one(submitted, sessions, it[len(lane) + 18 :], it) for it in members])
            after = b"(" + members[-1]
        return taken

    async def _take_one(self, submitted: Submitted, sessions: set[str], message: bytes, member: bytes) -> int:
        session = correlation(message).get("session_id", "")
        if session not in sessions:
            return 0
        names = [keys.QUEUE, keys.LANES_MESSAGES, keys.BULK_SESSIONS, keys.bulk_taken(submitted.id)]
        names += [keys.lease(session), keys.begun(session)]
        return int(await self._take(keys=names, args=[message, member, session, _TAKEN_SECONDS]))
