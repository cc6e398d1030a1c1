"""Calls of the database through PostgREST: a call that fails raises one of four errors."""

import re
from typing import Any

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

from worker.errors import CallRejected, ServiceUnavailable
from worker.generation.supabase.refusals import refusal

#: SQLSTATE of answers that stay the same: data exceptions, violated constraints, exceptions of a function or trigger.
_FOR_GOOD = re.compile(r"22...|23...|P0001")
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class AnswerLost(ServiceUnavailable):
    """The answer was lost, or is unusable: the database may have made the change."""


class FunctionMissing(ServiceUnavailable):
    """PostgREST does not know the function: its migration is not installed, or the schema cache is stale."""


async def run(query: Any, what: str = "database call failed") -> Any:
    """Return the answer's data. The text of an error begins with `what`.

    Raises ServiceUnavailable, AnswerLost, FunctionMissing for a call that may be repeated, and CallRejected.
    """
    try:
        return (await query.execute()).data
    except APIError as error:
        kind: type[Exception] = FunctionMissing if error.code == "PGRST202" else ServiceUnavailable
        if _FOR_GOOD.fullmatch(error.code or ""):
            kind = CallRejected
        raise kind(f"{what}: {refusal(error)}") from error
    except httpx.HTTPStatusError as error:
        # A gateway's time-out says nothing about the database behind it.
        kind = AnswerLost if error.response.status_code in (502, 504, *range(520, 528)) else ServiceUnavailable
        raise kind(f"{what}: {refusal(error)}") from error
    except _NOT_SENT as error:
        remedy = "" if isinstance(error, httpx.PoolTimeout) else "; check SUPABASE_URL"
        raise ServiceUnavailable(f"{what}: no connection ({type(error).__name__}){remedy}") from error
    except (httpx.HTTPError, ValueError) as error:
        raise AnswerLost(f"{what}: {type(error).__name__}") from error


async def call(client: AsyncPostgrestClient, function: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the object that a function of sql/functions.sql answers with; raises what `run` raises."""
    answer = await run(client.rpc(function, parameters), f"database does not run {function}")
    if not isinstance(answer, dict):
        raise AnswerLost(f"database answered {function} with {type(answer).__name__}, not an object")
    return answer


def rows(data: Any, *columns: str) -> list[dict[str, Any]]:
    """The rows of a table, each with these columns; raises ServiceUnavailable for any other answer."""
    if not isinstance(data, list) or not all(isinstance(row, dict) and row.keys() >= set(columns) for row in data):
        raise ServiceUnavailable(f"database answered with something else than rows of {', '.join(columns)}")
    return data
