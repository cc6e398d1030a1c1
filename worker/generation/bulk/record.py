"""The memory of manifests in Redis: what was submitted, which rows were pushed, and which were cancelled.

The rows' pictures and credits are in the database, under ids that follow from the manifest. Without this memory the
same file, submitted again, finds all of them.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from worker.errors import WorkerError
from worker.generation import keys
from worker.generation.bulk.manifest import Manifest
from worker.generation.room import insist

#: Longer than a message of bulk may wait, and a store asks for its pictures.
_SECONDS = 30 * 24 * 3600

#: KEYS: queue, pushed, cancelled. ARGV: seconds, then bit and message of each row. -> how many were pushed now.
_PUSH = """
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
local count = 0
for place = 2, #ARGV, 2 do
  if redis.call('SETBIT', KEYS[2], ARGV[place], 1) == 0 then
    redis.call('LPUSH', KEYS[1], ARGV[place + 1])
    count = count + 1
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return count
"""


class NoSuchManifest(WorkerError):
    """No manifest has this id."""


@dataclass(frozen=True)
class Submitted:
    """A manifest that was submitted."""

    id: str
    store_id: UUID
    digest: str
    rows: int
    references: list[str]


class Record:
    """Reads and writes the memory of manifests. All methods raise what Redis raises."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text
        self._push = redis.register_script(_PUSH)

    async def begin(self, manifest: Manifest) -> None:
        """Remember the manifest. Raise WorkerError if its id stands for another manifest, or was cancelled."""
        references = [row.reference for row in manifest.rows]
        await self._keep(manifest.id, manifest.store_id, manifest.digest, references)
        known = await self.find(manifest.id)
        if known.digest != manifest.digest:
            raise WorkerError(f"manifest {manifest.id} is another file, or of another store; choose another --id")
        if await self.is_cancelled(manifest.id):
            raise WorkerError(f"manifest {manifest.id} was cancelled; to queue the file anew choose another --id")

    async def find(self, manifest_id: str) -> Submitted:
        """The manifest; raise NoSuchManifest."""
        kept = await self._redis.get(keys.bulk(manifest_id))
        if kept is None:
            raise NoSuchManifest(f"no manifest {manifest_id} was submitted here within 30 days")
        fields = json.loads(kept)
        return Submitted(
            manifest_id, UUID(fields["store"]), fields["digest"], fields["rows"], list(fields["references"])
        )

    async def push(self, manifest_id: str, messages: dict[int, bytes]) -> int:
        """Push each row's message once, however often asked. Return their number, -1 for a cancelled manifest."""
        names = [keys.QUEUE, keys.bulk_pushed(manifest_id), keys.bulk_cancelled(manifest_id)]
        pairs = [item for pair in messages.items() for item in pair]
        return int(await self._push(keys=names, args=[_SECONDS, *pairs]))

    async def cancel(self, manifest_id: str) -> None:
        """Stop the pushes of the manifest, also in a full Redis, which a cancellation empties."""
        await insist(self._redis, "SET", keys.bulk_cancelled(manifest_id), 1, "EX", _SECONDS)

    async def is_cancelled(self, manifest_id: str) -> bool:
        """Tell if the manifest was cancelled."""
        return bool(await self._redis.exists(keys.bulk_cancelled(manifest_id)))

    async def pushed(self, manifest_id: str) -> set[int]:
        """Rows whose message was pushed."""
        bits = await self._redis.get(keys.bulk_pushed(manifest_id)) or b""
        return {8 * at + bit for at, byte in enumerate(bits) for bit in range(8) if byte & 128 >> bit}

    async def taken(self, manifest_id: str) -> set[str]:
        """Sessions whose waiting message the cancellation has taken away."""
        return {name.decode() for name in await self._redis.smembers(keys.bulk_taken(manifest_id))}

    async def join(self, manifest_id: str, other: "Record") -> None:
        """Add what another Redis knows of the manifest, unless its id stands for another manifest here."""
        with suppress(NoSuchManifest):
            theirs = await other.find(manifest_id)
            await self._keep(manifest_id, theirs.store_id, theirs.digest, theirs.references)
            if (await self.find(manifest_id)).digest != theirs.digest:
                return
        if await other.is_cancelled(manifest_id):
            await self.cancel(manifest_id)
        pushed, taken = keys.bulk_pushed(manifest_id), keys.bulk_taken(manifest_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            for place in await other.pushed(manifest_id):
                pipe.setbit(pushed, place, 1)
            for session in await other.taken(manifest_id):
                pipe.sadd(taken, session)
            for name in (pushed, taken):
                pipe.expire(name, _SECONDS)
            await pipe.execute()

    async def _keep(self, manifest_id: str, store_id: UUID, digest: str, references: list[str]) -> None:
        kept = {"store": str(store_id), "digest": digest, "rows": len(references), "references": references}
        await self._redis.set(keys.bulk(manifest_id), json.dumps(kept), nx=True, ex=_SECONDS)
