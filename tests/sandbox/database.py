"""Synchronous access to one PostgreSQL database, for tests, producers and reports."""

import json
from pathlib import Path
from typing import Any, Self

import asyncpg

from tests.sandbox.loops import BackgroundLoop

Row = dict[str, Any]


class Database:
    """A small connection pool; rows come as dicts, json and jsonb as Python values."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._loop = BackgroundLoop()
        self._pool: asyncpg.Pool | None = None

    def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """All rows of the query."""
        return self._loop.run(self._fetch(sql, *arguments))

    def row(self, sql: str, *arguments: object) -> Row | None:
        """The first row, None when there is none."""
        rows = self.fetch(sql, *arguments)
        return rows[0] if rows else None

    def value(self, sql: str, *arguments: object) -> Any:
        """The first column of the first row, None when there is none."""
        row = self.row(sql, *arguments)
        return next(iter(row.values())) if row else None

    def execute(self, script: str, *arguments: object) -> None:
        """Run one statement with arguments, or a script of many without."""
        self._loop.run(self._execute(script, *arguments))

    def apply(self, file: Path) -> None:
        """Run an SQL file."""
        self.execute(file.read_text())

    def close(self) -> None:
        """Close all connections."""
        if self._pool:
            # terminate, not close: a connection may wait for a lock that a hung request holds.
            self._pool.terminate()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _fetch(self, sql: str, *arguments: object) -> list[Row]:
        async with (await self._connect()).acquire() as connection:
            return [dict(record) for record in await connection.fetch(sql, *arguments)]

    async def _execute(self, script: str, *arguments: object) -> None:
        async with (await self._connect()).acquire() as connection:
            await connection.execute(script, *arguments)

    async def _connect(self) -> asyncpg.Pool:
        if self._pool is None:
            self._pool = await asyncpg.create_pool(self.url, min_size=0, max_size=4, init=_decode_json)
        return self._pool


async def _decode_json(connection: asyncpg.Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
