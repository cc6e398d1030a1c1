"""Refusals of the database side of Supabase by meaning: a sentence for the log, and what an operator does about it."""

from dataclasses import dataclass

import httpx
from postgrest.exceptions import APIError

from worker.clients import json_object

KEY_REMEDY = "check SUPABASE_URL, and that SUPABASE_SERVICE_ROLE_KEY is the service role's key of that project"
_ADDRESS = "check SUPABASE_URL: it is the address of the project, without a path such as /rest/v1"
_WAIT = "it is tried again; look at the project's status and load in the Supabase dashboard"
_PAUSED = "the project is paused", "restore it in the Supabase dashboard"

#: By PostgREST's code, SQLSTATE, or the HTTP status where an answer has neither. An empty meaning: the answer's own.
_KNOWN: dict[str, tuple[str, str]] = {
    "401": ("", KEY_REMEDY),
    "403": ("", KEY_REMEDY),
    "PGRST301": ("", KEY_REMEDY),
    "PGRST302": ("", KEY_REMEDY),
    "PGRST303": ("", KEY_REMEDY),
    "42501": ("", KEY_REMEDY),
    "404": ("", _ADDRESS),
    "PGRST125": ("", _ADDRESS),
    "402": ("the project is restricted", "pay or upgrade the plan in the Supabase dashboard"),
    "429": ("too many requests", _WAIT),
    "540": _PAUSED,
    "PGRST000": ("PostgREST cannot reach the database", _WAIT),
    "PGRST001": ("PostgREST cannot reach the database", _WAIT),
    "PGRST002": ("PostgREST cannot read the schema", _WAIT),
    "PGRST003": ("all connections of PostgREST are in use", f"{_WAIT}, and at long queries"),
    "57014": ("the statement took longer than statement_timeout", "look for locks and missing indexes"),
    "PGRST202": (
        "PostgREST does not know the function",
        "apply functions.sql; if that is done, reload the schema: notify pgrst, 'reload schema'",
    ),
}
_DETAIL_CHARACTERS = 200


@dataclass(frozen=True)
class Refusal:
    """One line for the log or the doctor; `remedy` is empty when nothing better than waiting is known."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


def refusal(error: APIError | httpx.HTTPStatusError) -> Refusal:
    """The meaning of an answer of PostgREST, or of the gateway in front of it, which has no codes."""
    if isinstance(error, APIError):
        code, said = error.code or "", error.message or ""
    else:
        code, said = str(error.response.status_code), _said(error.response)
    meaning, remedy = _PAUSED if "project paused" in said.lower() else _KNOWN.get(code, ("", ""))
    # The gateway's words alone for a key that it refuses; everything else is found again by its code.
    detail = said if code == "401" and said else f"{code} {said}".strip()
    detail = " ".join(detail.split())[:_DETAIL_CHARACTERS]
    return Refusal(f"{meaning} ({detail})" if meaning else detail, remedy)


def _said(response: httpx.Response) -> str:
    """The gateway's sentence; of a page in HTML only the status is of use."""
    body = json_object(response)
    said = body.get("message") or body.get("msg") or body.get("error")
    return said if isinstance(said, str) else response.reason_phrase
