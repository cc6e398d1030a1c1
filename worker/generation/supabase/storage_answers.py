"""Answers of Supabase Storage by meaning: the status that it means often stands only in the body of a 400."""

from dataclasses import dataclass
from enum import Enum

import httpx
from storage3.utils import StorageException

from worker.clients import json_object

#: Whatever storage3 raises when a call was refused, lost, or answered by something else than Storage.
FAILURES = (httpx.HTTPError, StorageException, ValueError, KeyError, TypeError)

_AWAY_STATUSES = {408, 423, 425, 429}
_AWAY_WORDS = ("slowdown", "databasetimeout", "locktimeout", "resourcelocked")
_ACCOUNT_STATUSES = {401, 402, 403, 415, 507}
_ACCOUNT_WORDS = (
    "quota", "restricted", "row-level security", "policy", "nosuchbucket", "bucket not found", "invalidbucketname",
    "accessdenied", "jwt", "jws", "signature", "api key", "mime type",
)  # fmt: skip
_MISSING_WORDS = ("object not found", "nosuchkey")
_DETAIL_CHARACTERS = 200


class Meaning(Enum):
    """The one thing that the caller has to know about an answer."""

    #: A repetition of the call may help.
    AWAY = "away"
    #: The key, the bucket, a policy or a quota: no picture would be taken.
    ACCOUNT = "account"
    #: The bucket is there, the object is not.
    MISSING = "missing"
    #: An object of that name is there already.
    EXISTS = "exists"
    #: A refusal that may be about this one object.
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Answer:
    """`detail` is for the log: status and words of the answer, or the name of the error when there was none."""

    meaning: Meaning
    detail: str


def read(failure: Exception) -> Answer:
    """The meaning of one of FAILURES."""
    response = _response(failure)
    if response is None:
        return Answer(Meaning.AWAY, type(failure).__name__)
    body = json_object(response)
    status = _status(response, body)
    words = " ".join(str(body[name]) for name in ("error", "code", "message") if body.get(name))
    detail = f"{status} {' '.join((words or response.reason_phrase).split())[:_DETAIL_CHARACTERS]}"
    return Answer(_meaning(status, words.lower()), detail)


def _meaning(status: int, words: str) -> Meaning:
    if status in _AWAY_STATUSES or _any(_AWAY_WORDS, words):
        return Meaning.AWAY
    if status in _ACCOUNT_STATUSES or _any(_ACCOUNT_WORDS, words):
        return Meaning.ACCOUNT
    if status >= 500:
        return Meaning.AWAY
    if status == 404:
        return Meaning.MISSING if _any(_MISSING_WORDS, words) else Meaning.ACCOUNT
    return Meaning.EXISTS if status == 409 else Meaning.UNCLEAR


def _status(response: httpx.Response, body: dict[str, object]) -> int:
    """Return the status that is meant: a 400 is Storage's envelope for all refusals."""
    meant = str(body.get("statusCode"))
    return int(meant) if response.status_code == 400 and meant.isascii() and meant.isdigit() else response.status_code


def _response(failure: BaseException | None) -> httpx.Response | None:
    """The refusal itself: storage3 wraps it, once or twice."""
    while failure is not None:
        if isinstance(failure, httpx.HTTPStatusError):
            return failure.response
        failure = failure.__cause__ or failure.__context__
    return None


def _any(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)
