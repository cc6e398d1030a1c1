"""An error of OpenAI as it came, read from the response itself."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from worker.generation.openai.words import ACCOUNT, MODEL, MODEL_SENTENCE, SCOPE, VERIFY_SENTENCE
from worker.photos.labels import retry_after_seconds

MAX_SENTENCE = 300
_RETRY_AFTER_MAX_SECONDS = 3600.0
_QUOTED_MAX = 60
#: Far more than an error, far less than a picture.
_ERROR_MAX_BYTES = 100_000


@dataclass(frozen=True)
class Answer:
    """An error as it came; empty where the answer does not say."""

    status: int
    code: str = ""
    type: str = ""
    param: str = ""
    message: str = ""
    html: bool = False
    request_id: str = ""
    retry_after: float = 0.0

    @classmethod
    def of(cls, response: httpx2.Response) -> "Answer":
        """Read from the response itself: the SDK's reading leaves out what has not the expected form."""
        body = _json(response.content)
        words = body.get("error", body) if isinstance(body, dict) else {}
        words = words if isinstance(words, dict) else {"message": words}
        return cls(
            status=response.status_code,
            code=_word(words.get("code")),
            type=_word(words.get("type")),
            param=_word(words.get("param")),
            message=str(words.get("message") or ""),
            html=is_html(response.headers, response.content),
            request_id=response.headers.get("x-request-id", "")[:80],
            retry_after=retry_after(response.headers),
        )

    @classmethod
    def in_success(cls, response: httpx2.Response) -> "Answer | None":
        """The error that a gateway sends with a status of success; None: the answer has no error."""
        body = _json(response.content) if len(response.content) < _ERROR_MAX_BYTES else None
        if not isinstance(body, dict) or not body.get("error") or body.get("data"):
            return None
        return cls.of(response)

    @property
    def says_model_is_gone(self) -> bool:
        """Return True if the answer says so in words that have no other cause."""
        return bool(MODEL.search(self.code) or MODEL_SENTENCE.search(self.message))

    @property
    def is_about_the_model(self) -> bool:
        """Return True if no customer's picture or prompt can be the cause, unless the model is known to be there."""
        return self.says_model_is_gone or self.param == "model" or self.status in (403, 404, 410)

    @property
    def is_about_permission(self) -> bool:
        """Return True if the key or the organization is refused, by words that are never about a single request."""
        # "Must be verified" comes with model_not_found, too, and is true of every model.
        if self.status == 401 or VERIFY_SENTENCE.match(self.message):
            return True
        return bool(ACCOUNT.search(self.code)) and not MODEL.search(self.code)

    @property
    def lacks_scope(self) -> bool:
        """Return True if the key is accepted, but restricted to other operations."""
        return bool(SCOPE.search(self.code) or SCOPE.search(self.message))

    def describe(self, *secrets: str) -> str:
        """One line for the log: status, code, OpenAI's own sentence without `secrets`, and the request's id."""
        words = f"OpenAI answered {self.status} {self.code or self.type}".rstrip()
        sentence = clean(self.message, *secrets)
        return f"{words}{f': {sentence}' if sentence else ''} ({self.request_id or 'no request id'})"


def clean(sentence: str, *secrets: str) -> str:
    """Cut to MAX_SENTENCE characters on one line, without keys, addresses, e-mails, `secrets` and long quotations."""
    for secret in secrets:
        if len(secret) > 3:
            sentence = sentence.replace(secret, "***")
    sentence = re.sub(r"\b\w+://\S+|\bwww\.\S+", "<url>", sentence)
    sentence = re.sub(r"(?i)\b(sk|sess|ek)-[\w*.…-]+|(?<=key provided: )\S+|(?<=bearer )\S+", "<key>", sentence)
    # From the beginning of a word only: a picture that a gateway repeats is one word of a million characters.
    sentence = re.sub(r"(?<![^\s@<>])[^\s@<>]+@[^\s@<>]+", "<e-mail>", sentence)
    # A customer's prompt may be quoted; names of parameters and models are short.
    sentence = re.sub(rf"(['\"`])(?:(?!\1).){{{_QUOTED_MAX},}}\1", r"\1…\1", sentence, flags=re.S)
    sentence = " ".join("".join(char if char.isprintable() else " " for char in sentence).split())
    return sentence if len(sentence) <= MAX_SENTENCE else sentence[: MAX_SENTENCE - 1] + "…"


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the answer asks to wait, from milliseconds, seconds or a date; 0 without a time to come."""
    seconds = _number(headers.get("retry-after-ms")) / 1000 or _number(headers.get("retry-after"))
    return min(max(0.0, seconds or retry_after_seconds(headers.get("retry-after", ""))), _RETRY_AFTER_MAX_SECONDS)


def is_html(headers: Mapping[str, str], body: bytes) -> bool:
    """Return True for an answer of the network before OpenAI, whose own answers are JSON."""
    return "html" in headers.get("content-type", "").lower() or body[:256].lstrip().lower().startswith(
        (b"<!", b"<html")
    )


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _word(value: object) -> str:
    """A code, type or name as the patterns expect it, and short enough for a log line."""
    return re.sub(r"[^\w.\[\]-]+", "_", str(value)).replace("-", "_").lower()[:80] if value not in (None, "") else ""


def _number(value: str | None) -> float:
    try:
        number = float(value or 0)
    except ValueError:
        return 0.0
    return number if number > 0 else 0.0  # not a number, too
