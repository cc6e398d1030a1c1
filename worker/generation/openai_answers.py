"""The meaning of an error of OpenAI: by its words first, because one status or code stands for several things."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

import openai

from worker.errors import AccountRefused, EditFailed, GenerationError, ImageError, ModerationBlocked, RateLimited

#: Reasons of a pause; a closed set, because they are label values and stand in /health.
QUOTA_EXHAUSTED = "quota_exhausted"
UNAUTHORIZED = "openai_unauthorized"
MODEL_UNAVAILABLE = "openai_model_unavailable"
UNAVAILABLE = "openai_unavailable"
REASONS = (QUOTA_EXHAUSTED, UNAUTHORIZED, MODEL_UNAVAILABLE, UNAVAILABLE)

MAX_SENTENCE = 300
_RETRY_AFTER_MAX_SECONDS = 3600.0
_QUOTED_MAX = 60


class Meaning(Enum):
    """The value is the label `result` of wearon_openai_calls_total."""

    MODEL_GONE = "model_not_found"
    QUOTA = "quota_exhausted"
    UNAUTHORIZED = "unauthorized"
    MODERATION = "moderation_blocked"
    RATE_LIMITED = "rate_limited"
    PICTURE = "image_invalid"
    PASSING = "server_error"
    FINAL = "refused"


# Words of `code` and `type`, lower case with underscores: families, because OpenAI adds members every few months.
_RATE = re.compile(r"rate_limit|slow_down|too_many_requests")
_QUOTA = re.compile(
    r"quota|billing|payment|(^|_)(credits?|spend|spending|budget)(_|$)|(usage|hard|monthly)_limit|insufficient_(funds|balance)"
)
_ACCOUNT = re.compile(
    r"api_key|unauthorized|authentication|permission|forbidden|access_(denied|terminated)|unsupported_country|ip_not_"
    r"|(account|organization|project|user)_.*(deactivat|disabl|suspend|terminat|archiv|not_found|not_active|verif)"
    r"|(invalid|mismatched)_(organization|project)"
)
_MODERATION = re.compile(r"moderation|content_(policy|filter)|safety|unsafe|policy_violation")
_MODEL = re.compile(
    r"model_.*(not|deprecat|retired|removed|shut|gone|unavailable|unsupported)|(unknown|invalid)_model|deprecated"
)
_PICTURE = re.compile(
    r"(invalid|unsupported|corrupt\w*|unreadable|bad)_image|image_.*(invalid|too_|pars|decod|format|dimension)"
)

# Sentences, for answers whose code says nothing. Those about the account are tied to their beginning: the rest of a
# sentence may repeat what a customer has sent.
_QUOTA_SENTENCE = re.compile(
    r"you (have )?exceeded your current quota|billing hard limit|your (account is not active|credit balance)"
    r"|you (have )?run out of credits",
    re.I,
)
_VERIFY_SENTENCE = re.compile(r"(your )?organi[sz]ation must be verified", re.I)
_SCOPE = re.compile(r"insufficient permissions|missing.scopes?", re.I)
_REJECTED_SENTENCE = re.compile(r"safety[ _]system|safety_violations|content[ _](policy|filter)|\bmoderation", re.I)
_POLICY_SENTENCE = re.compile(r"usage polic|policy violation|violat\w+ (of )?(our|openai'?s?|the) [\w ]*polic", re.I)
_MODEL_SENTENCE = re.compile(
    r"\bmodel\b.{0,120}(does not exist|not found|no longer|deprecated|shut ?down|retired|removed|discontinued)"
    r"|\bmodel\b.{0,120}not have access|not have access to (the )?model|deprecated.{0,60}\bmodel\b",
    re.I | re.S,
)
#: No more than a hint: the answer speaks of a model, perhaps of what it does not take.
_MENTIONS_MODEL = re.compile(r"gpt-image|dall-e|\bmodel\b", re.I)
_PICTURE_SENTENCE = re.compile(
    r"invalid image file|(could not|cannot|unable to|failed to) (read|process|decode|parse|open) .{0,20}image", re.I
)


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
    def of(cls, error: openai.APIStatusError) -> "Answer":
        """Read from the response itself: the SDK's reading leaves out what has not the expected form."""
        response = error.response
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

    @property
    def says_model_is_gone(self) -> bool:
        """In plain words, which have no other cause."""
        return bool(_MODEL.search(self.code) or _MODEL_SENTENCE.search(self.message))

    @property
    def is_about_the_model(self) -> bool:
        """No customer's picture or prompt can be the cause, if the model is not known to be there."""
        return self.says_model_is_gone or self.param == "model" or self.status in (403, 404, 410)

    @property
    def is_about_permission(self) -> bool:
        """The key or the organization is refused, by words that are never about a single request."""
        # "Must be verified" comes with model_not_found, too, and is true of every model.
        if self.status == 401 or _VERIFY_SENTENCE.match(self.message):
            return True
        return bool(_ACCOUNT.search(self.code)) and not _MODEL.search(self.code)

    @property
    def lacks_scope(self) -> bool:
        """The key is accepted, but restricted to other operations."""
        return bool(_SCOPE.search(self.code) or _SCOPE.search(self.message))

    def describe(self, *secrets: str) -> str:
        """One line for the log: status, code, OpenAI's own sentence without `secrets`, and the request's id."""
        words = f"OpenAI answered {self.status} {self.code or self.type}".rstrip()
        sentence = clean(self.message, *secrets)
        return f"{words}{f': {sentence}' if sentence else ''} ({self.request_id or 'no request id'})"


def meaning(answer: Answer, *, model_lives: bool = False) -> Meaning:
    """The one meaning of an answer; `model_lives`: the model is known to be there, so the fault is another."""
    fits = (means for means, rule in _RULES if rule(answer))
    return next(means for means in fits if not (model_lives and means is Meaning.MODEL_GONE))


def as_error(answer: Answer, means: Meaning, *secrets: str) -> GenerationError:
    """The generation's error for a meaning that no retry and no other model changes."""
    detail = answer.describe(*secrets)
    if reason := _ACCOUNT_REASONS.get(means):
        return AccountRefused(reason, detail)
    if means is Meaning.RATE_LIMITED:
        return RateLimited(detail, answer.retry_after)
    return _ERRORS.get(means, EditFailed)(detail)


def clean(sentence: str, *secrets: str) -> str:
    """At most MAX_SENTENCE characters on one line, without keys, addresses, e-mails, `secrets` and long quotations."""
    for secret in secrets:
        if len(secret) > 3:
            sentence = sentence.replace(secret, "***")
    sentence = re.sub(r"\b\w+://\S+|\bwww\.\S+", "<url>", sentence)
    sentence = re.sub(r"(?i)\b(sk|sess|ek)-[\w*.…-]+|(?<=key provided: )\S+|(?<=bearer )\S+", "<key>", sentence)
    sentence = re.sub(r"[^\s@<>]+@[^\s@<>]+", "<e-mail>", sentence)
    # A customer's prompt may be quoted; names of parameters and models are short.
    sentence = re.sub(rf"(['\"`])(?:(?!\1).){{{_QUOTED_MAX},}}\1", r"\1…\1", sentence, flags=re.S)
    sentence = " ".join("".join(char if char.isprintable() else " " for char in sentence).split())
    return sentence if len(sentence) <= MAX_SENTENCE else sentence[: MAX_SENTENCE - 1] + "…"


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the answer asks to wait, from milliseconds, seconds or a date; 0 when it does not say or is over."""
    seconds = _number(headers.get("retry-after-ms")) / 1000 or _number(headers.get("retry-after"))
    return min(max(0.0, seconds or _until(headers.get("retry-after"))), _RETRY_AFTER_MAX_SECONDS)


def is_html(headers: Mapping[str, str], body: bytes) -> bool:
    """An answer of the network before OpenAI, whose own answers are JSON."""
    return "html" in headers.get("content-type", "").lower() or body[:256].lstrip().lower().startswith(
        (b"<!", b"<html")
    )


def _passing(answer: Answer) -> bool:
    if answer.status in (408, 409, 425) or answer.status >= 500:
        return True
    # A page of a proxy: only statuses that mean the same whoever says them count.
    return answer.html and answer.status not in (401, 402, 413, 429)


def _is_moderation(answer: Answer) -> bool:
    if answer.status in (401, 429):
        return bool(_MODERATION.search(answer.code))
    return bool(
        _MODERATION.search(answer.code)
        or _MODERATION.search(answer.type)
        # A 403 with such words, or such a code, is about an account that was closed.
        or (answer.status != 403 and not _ACCOUNT.search(answer.code) and _REJECTED_SENTENCE.search(answer.message))
        or (
            answer.status in (400, 422) and not _ACCOUNT.search(answer.code) and _POLICY_SENTENCE.search(answer.message)
        )
    )


def _is_about_money(answer: Answer) -> bool:
    if answer.status == 402:
        return True
    # An error of a parameter is the request's, whatever word its code has.
    if answer.param:
        return False
    words = _QUOTA.search(answer.code) or _QUOTA.search(answer.type)
    return bool(words or (not answer.code and _QUOTA_SENTENCE.match(answer.message)))


def _perhaps_model_gone(answer: Answer) -> bool:
    if answer.says_model_is_gone or answer.param == "model" or answer.status in (404, 410):
        return answer.status != 429
    return answer.status not in (403, 429) and bool(_MENTIONS_MODEL.search(answer.message))


def _is_about_a_picture(answer: Answer) -> bool:
    about = _PICTURE.search(answer.code) or _PICTURE_SENTENCE.search(answer.message)
    return bool(about or re.match(r"image(s|_\d+|\W|$)", answer.param))


#: From the most certain to the rest; the first that fits counts.
_RULES: tuple[tuple[Meaning, Callable[[Answer], bool]], ...] = (
    (Meaning.PASSING, _passing),
    (Meaning.MODERATION, _is_moderation),
    (Meaning.RATE_LIMITED, lambda it: bool(_RATE.search(it.code)) and not _QUOTA.search(it.type)),
    (Meaning.QUOTA, _is_about_money),
    (Meaning.UNAUTHORIZED, lambda it: it.is_about_permission),
    (Meaning.MODEL_GONE, _perhaps_model_gone),
    (Meaning.UNAUTHORIZED, lambda it: it.status == 403 or bool(_ACCOUNT.search(it.type))),
    (Meaning.RATE_LIMITED, lambda it: it.status == 429),
    (Meaning.PICTURE, _is_about_a_picture),
    (Meaning.FINAL, lambda _: True),
)
_ACCOUNT_REASONS = {
    Meaning.QUOTA: QUOTA_EXHAUSTED,
    Meaning.UNAUTHORIZED: UNAUTHORIZED,
    Meaning.MODEL_GONE: MODEL_UNAVAILABLE,
}
_ERRORS = {Meaning.MODERATION: ModerationBlocked, Meaning.PICTURE: ImageError}


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


def _until(value: str | None) -> float:
    try:
        date = parsedate_to_datetime(value or "")
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return (date - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
