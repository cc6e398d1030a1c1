"""The part of PostgREST that its clients use; each request is one transaction in the caller's role."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.supabase.catalog import Catalog, Function
from tests.sandbox.supabase.rest_answers import body_of, json_answer, rows_answer, written_answer
from tests.sandbox.supabase.rest_errors import RestError, answer, no_function, no_table
from tests.sandbox.supabase.rest_query import Query, identifier, split, unquote


class Rest:
    """Endpoints under /rest/v1. `pool` gives connections that may take the caller's role."""

    def __init__(self, pool: Callable[[], Awaitable[asyncpg.Pool]]) -> None:
        self._pool = pool
        self.catalog = Catalog()
        self.routes = [
            Route("/rpc/{name}", self.rpc, methods=["GET", "HEAD", "POST"]),
            Route("/{name}", self.table, methods=["GET", "HEAD", "POST", "PATCH", "DELETE"]),
        ]

    async def rpc(self, request: Request) -> Response:
        """Call a function with named arguments: from the body, or from the query when it only reads."""
        return await self._transaction(request, self._call)

    async def table(self, request: Request) -> Response:
        """Read, insert, update or delete rows."""
        steps = {"POST": self._insert, "PATCH": self._update, "DELETE": self._delete}
        return await self._transaction(request, steps.get(request.method, self._read))

    async def _transaction(self, request: Request, step: Callable[..., Awaitable[Response]]) -> Response:
        try:
            pool = await self._pool()
            async with (
                pool.acquire() as connection,
                connection.transaction(readonly=request.method in ("GET", "HEAD")),
            ):
                await connection.execute("select set_config('role', $1, true)", request.scope["sandbox.role"])
                return await step(request, connection)
        except (RestError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            return answer(error)

    async def _call(self, request: Request, connection: asyncpg.Connection) -> Response:
        parameters = [] if request.method == "POST" else request.query_params.multi_items()
        values = await body_of(request) if request.method == "POST" else dict(parameters)
        if not isinstance(values, dict):
            raise RestError(400, "PGRST102", "All object keys must match")
        name = request.path_params["name"]
        found = await self.catalog.functions(connection, name, set(values))
        if not found:
            raise no_function(name, list(values))
        if len(found) > 1:
            raise RestError(300, "PGRST203", f"Could not choose the best candidate function between: {found}")
        function = found[0]
        query = Query(request.query_params.multi_items() if request.method == "POST" else [])
        source = _invocation(function, values, query)
        if function.void:
            await connection.execute(f"select {source}", *query.arguments)
            return Response(status_code=204)
        if function.composite:
            return await rows_answer(request, connection, f"{source} as _t", query, one=not function.many)
        result = "coalesce(json_agg(_t.v), '[]')::text" if function.many else "to_json(_t.v)::text"
        text = await connection.fetchval(f"select {result} from (select {source} as v) _t", *query.arguments)
        return json_answer(text if text is not None else "null")

    async def _read(self, request: Request, connection: asyncpg.Connection) -> Response:
        table, query = await self._target(request, connection)
        return await rows_answer(request, connection, table, query)

    async def _insert(self, request: Request, connection: asyncpg.Connection) -> Response:
        table, query = await self._target(request, connection)
        rows = await body_of(request)
        rows = rows if isinstance(rows, list) else [rows]
        names = [unquote(name) for name in split(query.get("columns") or "")] or list(rows[0] if rows else {})
        columns = ", ".join(map(identifier, names))
        sql = (
            f"insert into {table} ({columns}) select {columns} "
            f"from json_populate_recordset(null::{table}, ({query.text(json.dumps(rows))})::json)"
            if names
            else f"insert into {table} default values"
        )
        resolution = re.search(r"resolution=(\w+)-duplicates", request.headers.get("prefer", ""))
        if resolution:
            target = ", ".join(map(identifier, map(unquote, split(query.get("on_conflict") or "id"))))
            updates = ", ".join(f"{identifier(name)} = excluded.{identifier(name)}" for name in names)
            action = "nothing" if resolution[1] == "ignore" else f"update set {updates}"
            sql += f" on conflict ({target}) do {action}"
        return await written_answer(request, connection, sql, query, status=201)

    async def _update(self, request: Request, connection: asyncpg.Connection) -> Response:
        table, query = await self._target(request, connection)
        row = await body_of(request)
        names = [identifier(key) for key in row]
        if not names:
            return Response(status_code=204)
        source = f"json_populate_record(null::{table}, ({query.text(json.dumps(row))})::json)"
        values = ", ".join(f"{name} = (select {name} from {source})" for name in names)
        sql = f"update {table} set {values} where {query.where()}"
        return await written_answer(request, connection, sql, query)

    async def _delete(self, request: Request, connection: asyncpg.Connection) -> Response:
        table, query = await self._target(request, connection)
        return await written_answer(request, connection, f"delete from {table} where {query.where()}", query)

    async def _target(self, request: Request, connection: asyncpg.Connection) -> tuple[str, Query]:
        name = request.path_params["name"]
        if not await self.catalog.has_table(connection, name):
            raise no_table(name)
        return f"public.{identifier(name)}", Query(request.query_params.multi_items())


def _invocation(function: Function, values: dict[str, Any], query: Query) -> str:
    """The call in SQL; PostgreSQL itself turns the JSON values into the arguments' types, as for PostgREST."""
    if not values:
        return f"public.{identifier(function.name)}()"
    used = [(identifier(name), kind) for name, kind in function.arguments if name in values]
    record = ", ".join(f"{name} {kind}" for name, kind in used)
    source = f"json_to_record(({query.text(json.dumps(values))})::json) as _a({record})"
    arguments = ", ".join(f"{name} := (select {name} from {source})" for name, _ in used)
    return f"public.{identifier(function.name)}({arguments})"
