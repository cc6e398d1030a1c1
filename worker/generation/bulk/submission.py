"""Queues a manifest: for each row the credit, the session, the message, in the app's order and each once.

Ids follow from manifest and row, so every step knows whether an earlier run has done it, or does it beside this one.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from worker.generation.bulk.books import PAGE, Books
from worker.generation.bulk.manifest import Manifest, Row
from worker.generation.bulk.record import Record
from worker.generation.message import GenerationMessage

#: Calls to the database at once.
_AT_ONCE = 8


@dataclass
class Result:
    """The fate of the rows. Those that are in no number are not queued: the credits ran out."""

    queued: int = 0
    #: By an earlier run, or one beside this one.
    before: int = 0
    #: Their credit went back before their message was queued, because the command had stopped for too long. They are
    #: not queued any more.
    refunded: int = 0
    out_of_credit: bool = False
    cancelled: bool = False

    @property
    def done(self) -> int:
        """Rows for which nothing is left to do."""
        return self.queued + self.before + self.refunded


class Submission:
    """Raises what Redis raises, ServiceUnavailable and CallRejected; then the same call goes on where it stopped."""

    def __init__(self, record: Record, books: Books, on_progress: Callable[[Result], None]) -> None:
        self._record = record
        self._books = books
        self._on_progress = on_progress

    async def run(self, manifest: Manifest) -> Result:
        """Queue all rows, or as many as there are credits for, in their order."""
        await self._record.begin(manifest)
        result = Result()
        for start in range(0, len(manifest.rows), PAGE):
            await self._page(manifest, manifest.rows[start : start + PAGE], result)
            self._on_progress(result)
            if result.out_of_credit or result.cancelled:
                break
        return result

    async def _page(self, manifest: Manifest, rows: Sequence[Row], result: Result) -> None:
        messages = {row.number: manifest.message(row) for row in rows}
        known = await self._books.sessions([message.session_id for message in messages.values()])
        new = {number: message for number, message in messages.items() if message.session_id not in known}
        open_ones = {
            number for number, it in messages.items() if it.session_id in known and _waits(known[it.session_id])
        }
        paid = await self._pay(new, result) if new else set()
        ready = sorted(open_ones | paid)
        pushed = 0
        if ready:
            texts = {number: messages[number].model_dump_json(exclude_none=True).encode() for number in ready}
            pushed = await self._record.push(manifest.id, texts)
        result.cancelled = pushed < 0
        if not result.cancelled:
            result.queued += pushed
            lost = await self._never_pushed(manifest.id, messages, known)
            result.refunded += lost
            result.before += len(known) - lost + len(paid) - pushed

    async def _never_pushed(
        self, manifest_id: str, messages: dict[int, GenerationMessage], known: dict[UUID, dict[str, Any]]
    ) -> int:
        """Number of rows whose session was failed, with its refund, before its message was queued."""
        failed = {number for number, it in messages.items() if known.get(it.session_id, {}).get("status") == "failed"}
        return len(failed - await self._record.pushed(manifest_id)) if failed else 0

    async def _pay(self, new: dict[int, GenerationMessage], result: Result) -> set[int]:
        """Rows whose credit is taken and whose session is there now."""
        ledger = await self._books.credits(message.request_id for message in new.values())
        refunded = {number for number, it in new.items() if "refund" in ledger.get(it.request_id, ())}
        result.refunded += len(refunded)
        wanted = [number for number in sorted(new) if number not in refunded]
        done: set[int] = set()
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            paid = await asyncio.gather(*(self._pay_one(new[number], ledger) for number in some))
            done |= {number for number, taken in zip(some, paid, strict=True) if taken}
            if not all(paid):
                result.out_of_credit = True
                break
        return done

    async def _pay_one(self, message: GenerationMessage, ledger: dict[str, set[str]]) -> bool:
        taken = "deduction" in ledger.get(message.request_id, ()) or await self._books.deduct(message.request_id)
        if taken:
            await self._books.insert(message)
        return taken


def _waits(row: dict[str, object]) -> bool:
    return row["status"] == "queued"
