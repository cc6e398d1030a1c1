"""The part of PostgREST that the worker calls; each request is one transaction in the caller's role."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import asyncpg
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.supabase.catalog import Catalog, Function
from tests.sandbox.supabase.rest_errors import RestError, answer, no_function, no_table
from tests.sandbox.supabase.rest_query import columns, condition, identifier, window


class Rest:
    """Endpoints under /rest/v1. `pool` gives connections that may take the caller's role."""

    def __init__(self, pool: Callable[[], Awaitable[asyncpg.Pool]]) -> None:
        self._pool = pool
        self.catalog = Catalog()
        self.routes = [
            Route("/rpc/{name}", partial(self._transaction, step=self._call), methods=["POST"]),
            Route("/{name}", partial(self._transaction, step=self._read), methods=["GET"]),
        ]

    async def _transaction(self, request: Request, step: Callable[..., Awaitable[Response]]) -> Response:
        try:
            pool = await self._pool()
            async with pool.acquire() as connection, connection.transaction(readonly=request.method == "GET"):
                await connection.execute("select set_config('role', $1, true)", request.scope["sandbox.role"])
                return await step(request, connection)
        except (RestError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            return answer(error)

    async def _call(self, request: Request, connection: asyncpg.Connection) -> Response:
        """Call a function with the named arguments of the body."""
        values, name = await _body(request), request.path_params["name"]
        function = await self.catalog.function(connection, name, set(values))
        if not function:
            raise no_function(name, list(values))
        text = await connection.fetchval(_invocation(function, values), *([json.dumps(values)] if values else []))
        return Response(status_code=204) if function.void else _json(text or "null")

    async def _read(self, request: Request, connection: asyncpg.Connection) -> Response:
        """Read rows."""
        name, query = request.path_params["name"], request.query_params
        if not await self.catalog.has_table(connection, name):
            raise no_table(name)
        rows = f"select {columns(query)} from public.{identifier(name)} where {condition(query)} {window(query)}"
        return _json(await connection.fetchval(f"select coalesce(json_agg(_r), '[]')::text from ({rows}) _r"))


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of the body; no body counts as an empty object."""
    try:
        return dict(json.loads(await request.body() or b"{}"))
    except (ValueError, TypeError) as error:
        raise RestError(400, "PGRST102", "Empty or invalid json", str(error)) from None


def _json(text: str) -> Response:
    """JSON as PostgreSQL wrote it."""
    return Response(text, media_type="application/json; charset=utf-8")


def _invocation(function: Function, values: dict[str, Any]) -> str:
    """The call in SQL; PostgreSQL itself turns the JSON values into the arguments' types, as for PostgREST."""
    used = [(identifier(name), kind) for name, kind in function.arguments if name in values]
    call = f"public.{identifier(function.name)}({', '.join(f'{name} := _a.{name}' for name, _ in used)})"
    record = ", ".join(f"{name} {kind}" for name, kind in used)
    source = f" from json_to_record($1::text::json) as _a({record})" if used else ""
    return f"select {call if function.void else f'to_json({call})::text'}{source}"
