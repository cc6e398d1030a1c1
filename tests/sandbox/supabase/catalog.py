"""PostgREST's schema cache: the tables and functions of the `public` schema."""

import json
from dataclasses import dataclass

import asyncpg

_TABLES = """
select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'p', 'f')
"""
_FUNCTIONS = """
select p.proname as name, p.prorettype = 'void'::regtype as void, p.pronargs - p.pronargdefaults as required,
    (select json_agg(json_build_array(coalesce(p.proargnames[i + 1], ''), format_type(p.proargtypes[i], null))
        order by i) from generate_series(0, p.pronargs - 1) i)::text as arguments
from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
"""


@dataclass(frozen=True)
class Function:
    """One function; `arguments` are name and type of its inputs, the first `required` of them without a default."""

    name: str
    arguments: tuple[tuple[str, str], ...]
    required: int
    void: bool

    def accepts(self, names: set[str]) -> bool:
        """Return True if a call with these names is one of this function."""
        needed = {name for name, _ in self.arguments[: self.required]}
        return needed <= names <= {name for name, _ in self.arguments}


class Catalog:
    """Tables and functions, read on the first use and again after `forget()`."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Empty the cache."""
        self._tables: set[str] = set()
        self._functions: dict[str, Function] = {}

    async def has_table(self, connection: asyncpg.Connection, table: str) -> bool:
        """Look the table or view up, in the database if the cache lacks it."""
        if table not in self._tables:
            await self._read(connection)
        return table in self._tables

    async def function(self, connection: asyncpg.Connection, name: str, arguments: set[str]) -> Function | None:
        """The function that takes these arguments."""
        found = self._functions.get(name)
        if not found or not found.accepts(arguments):
            await self._read(connection)
            found = self._functions.get(name)
        return found if found and found.accepts(arguments) else None

    async def _read(self, connection: asyncpg.Connection) -> None:
        functions = [
            Function(**{**row, "arguments": tuple(map(tuple, json.loads(row["arguments"] or "[]")))})
            for row in await connection.fetch(_FUNCTIONS)
        ]
        self._functions = {function.name: function for function in functions}
        self._tables = {row["relname"] for row in await connection.fetch(_TABLES)}
