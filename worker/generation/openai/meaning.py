"""The meaning of an error of OpenAI: by its words first, then by its status."""

import re
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from worker.errors import AccountRefused, EditFailed, GenerationError, ImageError, ModerationBlocked, RateLimited
from worker.generation.openai import words
from worker.generation.openai.answers import Answer

#: Reasons of a pause; a closed set, because they are label values and stand in /health.
QUOTA_EXHAUSTED = "quota_exhausted"
UNAUTHORIZED = "openai_unauthorized"
MODEL_UNAVAILABLE = "openai_model_unavailable"
UNAVAILABLE = "openai_unavailable"
REASONS = (QUOTA_EXHAUSTED, UNAUTHORIZED, MODEL_UNAVAILABLE, UNAVAILABLE)


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


def meaning(answer: Answer, *, model_lives: bool = False) -> Meaning:
    """The one meaning of an answer; `model_lives`: the model is known to be there, so the fault is another."""
    fits = (means for means, rule in _RULES if rule(answer))
    return next(means for means in fits if not (model_lives and means is Meaning.MODEL_GONE))


def with_status(answer: Answer) -> Answer:
    """Give an error that came with a status of success the status that its words stand for."""
    if re.fullmatch(r"[45]\d\d", answer.code):
        return replace(answer, status=int(answer.code))
    said = f"{answer.code} {answer.type} {answer.message}"
    likely = 429 if words.RATE_SENTENCE.search(said) else 500 if words.SERVER_SENTENCE.search(said) else 400
    refused = replace(answer, status=400)
    return replace(answer, status=likely) if meaning(refused) is Meaning.FINAL else refused


def as_error(answer: Answer, means: Meaning, *secrets: str) -> GenerationError:
    """The generation's error for a meaning that no retry and no other model changes."""
    detail = answer.describe(*secrets)
    if reason := _ACCOUNT_REASONS.get(means):
        return AccountRefused(reason, detail)
    if means is Meaning.RATE_LIMITED:
        return RateLimited(detail, answer.retry_after)
    return _ERRORS.get(means, EditFailed)(detail)


def _passing(answer: Answer) -> bool:
    if answer.status in (408, 409, 425) or answer.status >= 500:
        return True
    # A page of a proxy: only statuses count that mean the same from a proxy and from OpenAI.
    return answer.html and answer.status not in (401, 402, 413, 429)


def _is_moderation(answer: Answer) -> bool:
    if words.MODERATION.search(answer.code):
        return True
    if answer.status in (401, 429):
        return False
    if words.MODERATION.search(answer.type):
        return True
    # A 403 with such words, or such a code, is about an account that was closed.
    if answer.status == 403 or words.ACCOUNT.search(answer.code):
        return False
    policy = answer.status in (400, 422) and words.POLICY_SENTENCE.search(answer.message)
    return bool(policy or words.REJECTED_SENTENCE.search(answer.message))


def _is_about_money(answer: Answer) -> bool:
    if answer.status == 402:
        return True
    # An error of a parameter is the request's, whatever word its code has.
    if answer.param:
        return False
    named = words.QUOTA.search(answer.code) or words.QUOTA.search(answer.type)
    return bool(named or (not answer.code and words.QUOTA_SENTENCE.match(answer.message)))


def _perhaps_model_gone(answer: Answer) -> bool:
    if answer.says_model_is_gone or answer.param == "model" or answer.status in (404, 410):
        return answer.status != 429
    return answer.status not in (403, 429) and bool(words.MENTIONS_MODEL.search(answer.message))


def _is_about_a_picture(answer: Answer) -> bool:
    about = words.PICTURE.search(answer.code) or words.PICTURE_SENTENCE.search(answer.message)
    return bool(about or re.match(r"image(s|_\d+|\W|$)", answer.param))


#: From the most certain to the rest; the first that fits counts.
_RULES: tuple[tuple[Meaning, Callable[[Answer], bool]], ...] = (
    (Meaning.PASSING, _passing),
    (Meaning.MODERATION, _is_moderation),
    (Meaning.RATE_LIMITED, lambda it: bool(words.RATE.search(it.code)) and not words.QUOTA.search(it.type)),
    (Meaning.QUOTA, _is_about_money),
    (Meaning.UNAUTHORIZED, lambda it: it.is_about_permission),
    (Meaning.MODEL_GONE, _perhaps_model_gone),
    (Meaning.UNAUTHORIZED, lambda it: it.status == 403 or bool(words.ACCOUNT.search(it.type))),
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
