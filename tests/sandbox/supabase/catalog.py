"""PostgREST's schema cache: the tables and functions of the `public` schema."""

import json
from dataclasses import dataclass
from typing import Any

import asyncpg

_TABLES = """
select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'p', 'f')
"""
_FUNCTIONS = """
select p.proname as name, p.proretset as many, t.typtype = 'c' or p.prorettype = 'record'::regtype as composite,
    p.prorettype = 'void'::regtype as void, p.pronargs - p.pronargdefaults as required,
    (select json_agg(json_build_array(coalesce(p.proargnames[i + 1], ''), format_type(p.proargtypes[i], null))
        order by i) from generate_series(0, p.pronargs - 1) i)::text as arguments
from pg_proc p join pg_type t on t.oid = p.prorettype
where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
"""


@dataclass(frozen=True)
class Function:
    """One function; `arguments` are name and type of its inputs, the first `required` of them without a default."""

    name: str
    arguments: tuple[tuple[str, str], ...]
    required: int
    many: bool
    composite: bool
    void: bool

    def accepts(self, names: set[str]) -> bool:
        """Whether a call with these named arguments is a call of this function."""
        needed = {name for name, _ in self.arguments[: self.required]}
        return needed <= names <= {name for name, _ in self.arguments}


class Catalog:
    """Read on the first use and again after `forget()`."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Read it anew next time."""
        self._tables: set[str] | None = None
        self._functions: dict[str, list[Function]] = {}

    async def has_table(self, connection: asyncpg.Connection, table: str) -> bool:
        """Whether there is a table or view of that name."""
        for _ in range(2):
            if self._tables is None:
                await self._read(connection)
            if self._tables is not None and table in self._tables:
                return True
            self._tables = None  # it may be new
        return False

    async def functions(self, connection: asyncpg.Connection, name: str, arguments: set[str]) -> list[Function]:
        """The overloads that a call with these arguments can mean."""
        for _ in range(2):
            if self._tables is None:
                await self._read(connection)
            if found := [item for item in self._functions.get(name, []) if item.accepts(arguments)]:
                return found
            self._tables = None
        return []

    async def _read(self, connection: asyncpg.Connection) -> None:
        functions: dict[str, list[Function]] = {}
        for row in await connection.fetch(_FUNCTIONS):
            pairs: list[Any] = json.loads(row["arguments"] or "[]")
            function = Function(**{**row, "arguments": tuple((name, kind) for name, kind in pairs)})
            functions.setdefault(function.name, []).append(function)
        self._functions = functions
        self._tables = {row["relname"] for row in await connection.fetch(_TABLES)}
