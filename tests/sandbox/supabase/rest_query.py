"""Query strings of PostgREST turned into SQL: select, filters, order, limit."""

import re
from collections.abc import Iterable

from tests.sandbox.supabase.rest_errors import RestError

_RESERVED = {"select", "order", "limit", "offset", "columns", "on_conflict", "or", "and", "not.or", "not.and"}
_COMPARE = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "like": "like", "ilike": "ilike"}
_IS = {"null", "not_null", "true", "false", "unknown"}
_COLUMN = re.compile(r"^(?:(?P<alias>[^:]+):(?!:))?(?P<name>\*|\"[^\"]+\"|[\w ]+)(?:::(?P<cast>\w+))?$")


class Query:
    """SQL parts of one request. Filters become untyped literals, as in PostgREST: the database finds their types."""

    def __init__(self, parameters: Iterable[tuple[str, str]]) -> None:
        self.parameters = list(parameters)
        self.arguments: list[str] = []

    def get(self, name: str) -> str | None:
        """The last value of a parameter."""
        return next((value for key, value in reversed(self.parameters) if key == name), None)

    def text(self, value: str) -> str:
        """A `$n` argument for a body."""
        self.arguments.append(value)
        return f"${len(self.arguments)}::text"

    def select(self) -> str:
        """The list of columns to return."""
        return ", ".join(self._column(item) for item in split(self.get("select") or "*"))

    def where(self) -> str:
        """All filters, as a condition."""
        conditions = [self._filter(key, value) for key, value in self.parameters if key not in _RESERVED]
        for key, value in self.parameters:
            if key in ("or", "and", "not.or", "not.and"):
                conditions.append(self._tree(key, value))
        return " and ".join(conditions) or "true"

    def order(self) -> str:
        """The order by clause, or nothing."""
        terms = []
        for item in split(self.get("order") or ""):
            name, *words = item.split(".")
            known = {"asc": "asc", "desc": "desc", "nullsfirst": "nulls first", "nullslast": "nulls last"}
            if not set(words) <= set(known):
                raise _unparsable(f"order ({item})")
            terms.append(" ".join([identifier(unquote(name)), *(known[word] for word in words)]))
        return f"order by {', '.join(terms)}" if terms else ""

    def _column(self, item: str) -> str:
        match = _COLUMN.match(item)
        if not match:
            raise _unparsable(f"select ({item})")
        name = match["name"]
        sql = name if name == "*" else identifier(unquote(name))
        sql += f"::{identifier(match['cast'])}" if match["cast"] else ""
        return f"{sql} as {identifier(unquote(match['alias']))}" if match["alias"] else sql

    def _filter(self, column: str, criteria: str) -> str:
        match = re.fullmatch(r"(not\.)?([^.]+)\.(.*)", criteria, re.S)
        if not match:
            raise _unparsable(f"filter ({criteria})")
        sql = self._condition(unquote(column), match[2], match[3])
        return f"not ({sql})" if match[1] else sql

    def _condition(self, column: str, operator: str, value: str) -> str:
        name = identifier(column)
        if operator in ("like", "ilike"):
            return f"{name} {operator} {_literal(value.replace('*', '%'))}"
        if operator in _COMPARE:
            return f"{name} {_COMPARE[operator]} {_literal(value)}"
        if operator == "is" and value.lower() in _IS:
            return f"{name} is {value.lower().replace('_', ' ')}"
        if operator == "in" and value.startswith("(") and value.endswith(")"):
            values = [_literal(unquote(item)) for item in split(value[1:-1])]
            return f"{name} in ({', '.join(values)})" if values else "false"
        raise _unparsable(f"filter ({operator}.{value})")

    def _tree(self, key: str, value: str) -> str:
        negate, word = key.startswith("not."), key.removeprefix("not.")
        terms = []
        for item in split(value.removeprefix("(").removesuffix(")")):
            nested = re.fullmatch(r"((?:not\.)?(?:and|or))(\(.*\))", item, re.S)
            terms.append(self._tree(nested[1], nested[2]) if nested else self._filter(*item.partition(".")[::2]))
        sql = f"({f' {word} '.join(terms)})"
        return f"not {sql}" if negate else sql


def split(text: str) -> list[str]:
    """Parts between the commas that are outside of quotes and parentheses."""
    parts, depth, quoted, start = [], 0, False, 0
    position = 0
    while position < len(text):
        char = text[position]
        if quoted and char == "\\":
            position += 1
        elif char == '"':
            quoted = not quoted
        elif not quoted and char in "()":
            depth += 1 if char == "(" else -1
        elif not quoted and not depth and char == ",":
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return [*parts, text[start:]] if text else []


def unquote(text: str) -> str:
    """`"a\\"b"` becomes `a"b`; text without quotes stays."""
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if len(text) > 1 and text[0] == text[-1] == '"' else text


def identifier(name: str) -> str:
    """A name in quotes for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''").replace("\0", "") + "'"


def _unparsable(what: str) -> RestError:
    return RestError(400, "PGRST100", f'"failed to parse {what}"', "unexpected input")
