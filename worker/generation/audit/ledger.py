"""Sessions, ledgers and balances, read page by page: what the audit knows about the database."""

from collections.abc import AsyncIterator
from typing import Any

from postgrest import AsyncPostgrestClient

from worker.generation import database
from worker.generation.channel import Channel
from worker.generation.retrying import retry_for

#: Supabase gives at most so many rows by default; a server that gives fewer is read to its end all the same.
_PAGE = 1000
#: A hiccup in the middle of a long reading is waited out this long.
_PATIENCE_SECONDS = 5.0

_SESSION_COLUMNS: dict[Channel, list[str]] = {
    Channel.B2C: ["id", "user_id", "status", "credits_used", "created_at"],
    Channel.B2B: ["id", "store_id", "status", "credits_used", "created_at", "request_id", "shopper_email"],
}
_LEDGER_COLUMNS: dict[Channel, list[str]] = {
    Channel.B2C: ["user_id", "amount", "type", "description"],
    Channel.B2B: ["store_id", "amount", "type", "description", "request_id"],
}

Row = dict[str, Any]


class Ledger:
    """`owners` narrows a reading to some users or stores. Every method raises ServiceUnavailable."""

    def __init__(self, database: AsyncPostgrestClient) -> None:
        self._database = database

    async def sessions(self, channel: Channel, owners: list[str] | None = None) -> AsyncIterator[Row]:
        """Every session of the channel."""
        async for row in self._rows(channel.table, _SESSION_COLUMNS[channel], "id", channel.owner_column, owners):
            yield row

    async def transactions(self, channel: Channel, owners: list[str] | None = None) -> AsyncIterator[Row]:
        """Every line of the channel's ledger."""
        # The contract names no key of the ledgers; with one, lines that are written meanwhile disturb nothing.
        table = channel.ledger
        example = await _execute(self._database.table(table).select("*").limit(1), table)
        key = "id" if example and "id" in example[0] else None
        columns = [key, *_LEDGER_COLUMNS[channel]] if key else _LEDGER_COLUMNS[channel]
        async for row in self._rows(table, columns, key, channel.owner_column, owners):
            yield row

    async def balances(self, channel: Channel) -> AsyncIterator[Row]:
        """The balance of every user or store."""
        owner = channel.owner_column
        async for row in self._rows(channel.balances, [owner, "balance"], owner, owner, None):
            yield row

    async def _rows(
        self, table: str, columns: list[str], key: str | None, owner: str, owners: list[str] | None
    ) -> AsyncIterator[Row]:
        last: Any = None
        position = 0
        while True:
            query = self._database.table(table).select(",".join(columns)).limit(_PAGE)
            # Without a key, in the order of everything that is read: rows that tie are the same.
            for column in [key] if key else columns:
                query = query.order(column)
            if owners:
                query = query.in_(owner, owners)
            if key and position:
                query = query.gt(key, last)
            elif position:
                query = query.offset(position)
            rows = await _execute(query, table, *columns)
            if not rows:
                return
            for row in rows:
                yield row
            position += len(rows)
            last = rows[-1][key] if key else None


async def _execute(query: Any, table: str, *columns: str) -> list[Row]:
    async def execute() -> list[Row]:
        return database.rows(await database.run(query, f"database does not show {table}"), *columns)

    return await retry_for(_PATIENCE_SECONDS)(execute)
