"""Queues a manifest: for each row the credit with the session, then the message, each once.

Ids follow from manifest and row, so every step knows whether an earlier run has done it, or does it beside this one.
A session whose message was never pushed, because the command died, is failed by the sweep, with its refund.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.generation.bulk.books import PAGE, Books
from worker.generation.bulk.manifest import Manifest, Row
from worker.generation.bulk.record import Record


@dataclass
class Result:
    """The fate of the rows. All others are not queued: the credits ran out, or the manifest was cancelled."""

    queued: int = 0
    #: Queued by an earlier run, or by a run beside this one.
    before: int = 0
    #: Not begun: the store's ledger has their request ids already, for other try-ons.
    used: int = 0
    #: Their credit went back before their message was queued, because the command had stopped for too long. They are
    #: not queued any more.
    refunded: int = 0
    out_of_credit: bool = False
    cancelled: bool = False

    @property
    def done(self) -> int:
        """Rows for which nothing is left to do."""
        return self.queued + self.before + self.refunded + self.used


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
        begun = await self._books.begin(messages.values())
        status = {number: begun.statuses.get(it.session_id, "") for number, it in messages.items()}
        waiting = [number for number in messages if status[number] == "queued"]
        pushed = 0
        if waiting:
            texts = {number: messages[number].model_dump_json(exclude_none=True).encode() for number in waiting}
            pushed = await self._record.push(manifest.id, texts)
        result.used += begun.used
        result.out_of_credit = begun.out_of_credit
        result.cancelled = pushed < 0
        if not result.cancelled:
            failed = {number for number in messages if status[number] == "failed"}
            lost = len(failed - await self._record.pushed(manifest.id)) if failed else 0
            result.queued += pushed
            result.refunded += lost
            result.before += len(begun.statuses) - lost - pushed
