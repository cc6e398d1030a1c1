"""Query strings of PostgREST turned into SQL: select, filters, order, limit and offset as the worker sends them."""

import re

from starlette.datastructures import QueryParams

from tests.sandbox.supabase.rest_errors import RestError

_RESERVED = {"select", "order", "limit", "offset"}
_COMPARE = {"eq": "=", "lt": "<", "gt": ">"}


def columns(query: QueryParams) -> str:
    """The list of columns to return."""
    names = query.get("select", "*").split(",")
    return ", ".join(name if name == "*" else identifier(name) for name in names)


def condition(query: QueryParams) -> str:
    """All filters, as a condition."""
    filters = [_filter(name, value) for name, value in query.multi_items() if name not in _RESERVED]
    return " and ".join(filters) or "true"


def window(query: QueryParams) -> str:
    """Order, limit and offset."""
    words = [re.sub(r"\.asc$", "", name) for name in query.get("order", "").split(",") if name]
    names = [identifier(word.removesuffix(".desc")) + " desc" * word.endswith(".desc") for word in words]
    order = f"order by {', '.join(names)} " if names else ""
    return f"{order}limit {int(query['limit']) if 'limit' in query else 'all'} offset {int(query.get('offset', 0))}"


def identifier(name: str) -> str:
    """A name in quotes for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _filter(column: str, criterion: str) -> str:
    operator, _, value = criterion.partition(".")
    if operator in _COMPARE:
        return f"{identifier(column)} {_COMPARE[operator]} {_literal(value)}"
    if operator == "in" and value.startswith("(") and value.endswith(")"):
        return f"{identifier(column)} in ({', '.join(map(_literal, value[1:-1].split(',')))})"
    raise RestError(400, "PGRST100", f'"failed to parse filter ({criterion})"', "unexpected input")


def _literal(text: str) -> str:
    """An untyped literal, as in PostgREST: the database finds the type."""
    return "'" + text.replace("'", "''").replace("\0", "") + "'"
