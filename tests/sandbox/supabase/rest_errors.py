"""PostgREST's error answers: JSON with code, details, hint and message, and the status that belongs to the code."""

import asyncpg
from starlette.responses import JSONResponse

#: Longest matching prefix of the SQLSTATE; anything else is 400. From PostgREST's documentation of its errors.
_STATUS = {
    "08": 503, "09": 500, "0L": 403, "0P": 403, "23503": 409, "23505": 409, "25006": 405, "25": 500, "28": 403,
    "2D": 500, "38": 500, "39": 500, "3B": 500, "40": 500, "53400": 500, "53": 503, "54": 500, "55": 500, "57": 500,
    "58": 500, "F0": 500, "HV": 500, "P0001": 400, "P0": 500, "XX": 500, "42883": 404, "42P01": 404, "42P17": 500,
    "42501": 403,
}  # fmt: skip


class RestError(Exception):
    """An error that PostgREST finds itself, with its own code."""

    def __init__(self, status: int, code: str, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details


def answer(error: Exception) -> JSONResponse:
    """The answer to a request that ended with this error."""
    if isinstance(error, RestError):
        return _body(error.status, error.code, str(error), error.details, None)
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate:
        return _body(status_of(error.sqlstate), error.sqlstate, _text(error.message), error.detail, error.hint)
    # No connection to the database, or it broke.
    return _body(503, "PGRST000", "Could not connect with the database", str(error) or None, None)


def status_of(sqlstate: str) -> int:
    """HTTP status of a database error."""
    if sqlstate.startswith("PT") and sqlstate[2:].isdigit():  # chosen by the function that raised it
        return int(sqlstate[2:])
    return next((_STATUS[sqlstate[:length]] for length in (5, 2) if sqlstate[:length] in _STATUS), 400)


def no_function(name: str, arguments: list[str]) -> RestError:
    """The answer when no function of that name takes these arguments."""
    listed = ", ".join(arguments)
    return RestError(
        404,
        "PGRST202",
        f"Could not find the function public.{name}({listed}) in the schema cache",
        f"Searched for the function public.{name} with "
        + (f"parameters {listed}" if listed else "no parameters")
        + " or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache.",
    )


def no_table(name: str) -> RestError:
    """The answer when there is no table or view of that name."""
    return RestError(404, "PGRST205", f"Could not find the table 'public.{name}' in the schema cache")


def _body(status: int, code: str, message: str, details: str | None, hint: str | None) -> JSONResponse:
    body = {"code": code, "details": details, "hint": hint, "message": message}
    return JSONResponse(body, status, headers={"Proxy-Status": f"PostgREST; error={code}"})


def _text(value: object) -> str:
    return str(value) if value is not None else ""
