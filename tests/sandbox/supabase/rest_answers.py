"""What PostgREST's clients send as a body and get back: rows, a single object, counts and ranges."""

import json
import re
from typing import Any

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from tests.sandbox.supabase.rest_errors import RestError, not_one
from tests.sandbox.supabase.rest_query import Query

_SINGLE = "application/vnd.pgrst.object+json"


async def body_of(request: Request) -> Any:
    """The JSON body; nothing counts as an empty object."""
    try:
        return json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise RestError(400, "PGRST102", "Empty or invalid json", str(error)) from None


async def rows_answer(
    request: Request, connection: asyncpg.Connection, source: str, query: Query, *, one: bool = False
) -> Response:
    """Rows of a table or function; `one` when the function returns one by its nature."""
    where = query.where()
    limit, offset = _window(request, query)
    inner = f"select {query.select()} from {source} where {where} {query.order()} limit {limit} offset {offset}"
    text, first, count = await connection.fetchrow(_aggregate(inner), *query.arguments)
    total = None
    if "count=" in request.headers.get("prefer", ""):
        total = await connection.fetchval(f"select count(*) from {source} where {where}", *query.arguments)
    if one:
        return json_answer(first or "null")
    if _single(request):
        return json_answer(_only(first, count))
    partial = total is not None and count < total
    return json_answer(text, 206 if partial else 200, _range(offset, count, total))


async def written_answer(
    request: Request, connection: asyncpg.Connection, sql: str, query: Query, *, status: int = 200
) -> Response:
    """Do it, and return the rows if they are wanted."""
    prefer = request.headers.get("prefer", "")
    inner = f"select {query.select()} from _written"
    text, first, count = await connection.fetchrow(
        f"with _written as ({sql} returning *) {_aggregate(inner)}", *query.arguments
    )
    limit = re.search(r"max-affected=(\d+)", prefer)
    if limit and count > int(limit[1]):
        message = "Query result exceeds max-affected preference constraint"
        raise RestError(400, "PGRST124", message, f"The query affects {count} rows")
    headers = {"Content-Range": f"*/{count if 'count=' in prefer else '*'}"}
    if _single(request):
        return json_answer(_only(first, count), status, headers)
    if "return=representation" in prefer:
        return json_answer(text, status, headers)
    return Response(status_code=201 if status == 201 else 204, headers=headers)


def json_answer(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON as PostgreSQL wrote it."""
    return Response(text, status, headers, media_type="application/json; charset=utf-8")


def _aggregate(inner: str) -> str:
    return f"select coalesce(json_agg(_r), '[]')::text, (json_agg(_r) -> 0)::text, count(*) from ({inner}) _r"


def _single(request: Request) -> bool:
    return request.headers.get("accept", "").startswith(_SINGLE)


def _only(first: str, count: int) -> str:
    if count != 1:
        raise not_one(count)
    return first


def _window(request: Request, query: Query) -> tuple[str, int]:
    limit, offset = query.get("limit"), int(query.get("offset") or 0)
    asked = re.fullmatch(r"(?:items=)?(\d+)-(\d*)", request.headers.get("range", ""))
    if asked:
        offset = max(offset, int(asked[1]))
        limit = limit or (str(int(asked[2]) - int(asked[1]) + 1) if asked[2] else None)
    return (str(int(limit)) if limit else "all"), offset


def _range(offset: int, count: int, total: int | None) -> dict[str, str]:
    span = f"{offset}-{offset + count - 1}" if count else "*"
    return {"Content-Range": f"{span}/{'*' if total is None else total}"}
