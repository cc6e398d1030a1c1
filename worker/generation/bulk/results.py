"""The results of a manifest's rows, with addresses of their pictures that are signed anew."""

import asyncio
from collections import Counter
from typing import Any

from storage3 import AsyncStorageClient

from worker.errors import StorageFailed
from worker.generation.bulk.books import NOT_QUEUED, Books
from worker.generation.bulk.manifest import session_id_of
from worker.generation.bulk.record import Submitted
from worker.generation.channel import Channel
from worker.generation.supabase.storage import Storage
from worker.settings import Settings

#: Signatures at once.
_AT_ONCE = 8


class Results:
    """Reads the sessions of a manifest; raises ServiceUnavailable."""

    def __init__(self, books: Books, submitted: Submitted) -> None:
        self._books = books
        self._submitted = submitted
        numbers = range(1, submitted.rows + 1)
        self._ids = {number: session_id_of(submitted.store_id, submitted.id, number) for number in numbers}

    async def count(self) -> dict[str, int]:
        """Number of rows, in all and by status."""
        rows = await self._books.sessions(list(self._ids.values()))
        found = Counter(row["status"] for row in rows.values())
        statuses = {name: found[name] for name in ("queued", "processing", "completed", "failed")}
        return {"rows": len(self._ids), NOT_QUEUED: len(self._ids) - len(rows), **statuses}

    async def all(self, bucket: AsyncStorageClient, settings: Settings) -> list[dict[str, Any]]:
        """Each row in order; a picture that was deleted meanwhile has no address."""
        storage = Storage(bucket, settings.supabase_storage_bucket, settings.signed_url_seconds)
        rows = await self._books.sessions(list(self._ids.values()))
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> dict[str, Any]:
            session_id = self._ids[number]
            row = rows.get(session_id, {})
            picture = ""
            if row.get("status") == "completed":
                async with turns:
                    picture = await _signed(storage, Channel.B2B.picture_path(self._submitted.store_id, session_id))
            return {
                "row": number,
                "reference": self._submitted.references[number - 1],
                "status": row.get("status", NOT_QUEUED),
                "picture": picture,
                "error": row.get("error_message") or "",
                "session_id": str(session_id),
            }

        return await asyncio.gather(*map(one, self._ids))


async def _signed(storage: Storage, path: str) -> str:
    try:
        return await storage.sign(path)
    except StorageFailed:
        return ""
