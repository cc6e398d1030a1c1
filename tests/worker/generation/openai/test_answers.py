"""Answers of OpenAI and what they mean: those of the sandbox, and relatives that were reported or may come."""

import time
from email.utils import formatdate
from typing import Any

import httpx2
import pytest

from tests.sandbox.openai.answers import REAL
from worker.errors import AccountRefused, EditFailed, ImageError, ModerationBlocked, RateLimited
from worker.generation.openai.answers import MAX_SENTENCE, Answer, clean, retry_after
from worker.generation.openai.meaning import Meaning, as_error, meaning

GONE, QUOTA, ACCOUNT = Meaning.MODEL_GONE, Meaning.QUOTA, Meaning.UNAUTHORIZED
MODERATION, RATE, PICTURE = Meaning.MODERATION, Meaning.RATE_LIMITED, Meaning.PICTURE
PASSING, FINAL = Meaning.PASSING, Meaning.FINAL

SANDBOX = {
    **dict.fromkeys(("model_not_found", "model_deprecated", "model_does_not_exist", "model_value_must_be"), GONE),
    "model_no_access": GONE,
    **dict.fromkeys(("insufficient_quota", "quota_in_type_only", "credit_balance_exhausted"), QUOTA),
    **dict.fromkeys(("organization_spend_limit_exceeded", "project_spend_limit_exceeded"), QUOTA),
    **dict.fromkeys(("organization_usage_limit_exceeded", "billing_hard_limit_reached", "billing_not_active"), QUOTA),
    **dict.fromkeys(("unauthorized", "organization_unverified", "unsupported_country", "restricted_key"), ACCOUNT),
    **dict.fromkeys(("moderation_blocked", "moderation_without_code", "content_policy_violation"), MODERATION),
    "invalid_image_file": PICTURE,
    "invalid_request": FINAL,
    "unknown_parameter": FINAL,
}
IMAGE_ERROR = "image_generation_user_error"
#: Meaning, status, type, code, param, message.
RELATIVES: list[tuple[Meaning, int, str | None, str | None, str | None, str]] = [
    # The model
    (GONE, 404, "invalid_request_error", "model_not_found", None, ""),
    (GONE, 404, None, None, None, ""),
    (GONE, 410, None, None, None, "Gone"),
    (GONE, 400, "invalid_request_error", None, None, "The model `gpt-image-1.5` has been deprecated."),
    (GONE, 400, "invalid_request_error", "model_deprecated", None, "..."),
    (GONE, 400, "invalid_request_error", "unsupported_value", "model", "Unsupported model."),
    (GONE, 400, IMAGE_ERROR, "invalid_value", None, "Invalid value: 'gpt-image-1.5'. Supported values are: 'x'."),
    (GONE, 403, "permission_denied", "model_not_found", None, "Project `p` does not have access to model `m`"),
    (GONE, 403, "invalid_request_error", None, "model", "You are not allowed to use it."),
    # Money
    (QUOTA, 429, "insufficient_quota", None, None, "..."),
    (QUOTA, 400, "billing_hard_limit_reached", None, None, "..."),
    (QUOTA, 429, None, None, None, "You exceeded your current quota, please check your plan and billing details."),
    (QUOTA, 400, IMAGE_ERROR, None, None, "Billing hard limit has been reached."),
    (QUOTA, 429, "insufficient_quota", "team_spend_limit_exceeded", None, "..."),
    (QUOTA, 403, "billing_error", "prepaid_credits_expired", None, "..."),
    (QUOTA, 402, None, None, None, "Payment Required"),
    (QUOTA, 429, "tokens", "monthly_budget_exceeded", None, "..."),
    (QUOTA, 401, "insufficient_quota", "insufficient_quota", None, "..."),
    (QUOTA, 429, "Insufficient-Quota", "", None, "..."),
    # Permission
    (ACCOUNT, 401, None, None, None, ""),
    (ACCOUNT, 401, "invalid_request_error", "account_deactivated", None, "The account has been deactivated."),
    (ACCOUNT, 403, None, None, None, ""),
    (ACCOUNT, 404, "invalid_request_error", "model_not_found", None, "Your organization must be verified to use `m`."),
    (ACCOUNT, 400, "invalid_request_error", "unsupported_country_region_territory", None, "..."),
    (ACCOUNT, 429, "access_terminated", "access_terminated", None, "Terminated for a violation of our policies."),
    (ACCOUNT, 429, "invalid_request_error", "account_suspended", None, "..."),
    (ACCOUNT, 400, "invalid_request_error", "invalid_organization", None, "No such organization."),
    # Moderation
    (MODERATION, 400, IMAGE_ERROR, None, None, "Your request was rejected by our safety system."),
    (MODERATION, 400, None, None, None, "This request has been blocked by our content policy."),
    (MODERATION, 400, None, None, None, "This content may violate our usage policies."),
    (MODERATION, 403, "invalid_request_error", "content_filter", None, "..."),
    (MODERATION, 400, IMAGE_ERROR, "moderation_blocked_output", None, "..."),
    (MODERATION, 422, "safety_error", None, None, "..."),
    # The rate: none of these may pause the intake.
    (RATE, 429, "input-images", "rate_limit_exceeded", None, "Rate limit reached for gpt-image-1.5 on images per min."),
    (
        RATE,
        429,
        "requests",
        "rate_limit_exceeded",
        None,
        "Rate limit reached. Visit .../account/billing to pay.",
    ),
    (RATE, 429, "tokens_usage_based", "rate_limit_exceeded", None, "..."),
    (RATE, 429, None, None, None, "Too many requests. The safety system is busy."),
    (RATE, 429, "requests", None, None, ""),
    # The customer's picture, and a request that cannot be right: no other customer may wait for it.
    (PICTURE, 400, IMAGE_ERROR, None, None, "Invalid image file or mode for image 2, please check your image file."),
    (PICTURE, 400, "invalid_request_error", "invalid_value", "image", "Unsupported mimetype."),
    (PICTURE, 400, "invalid_request_error", "image_parse_error", "image[1]", "..."),
    (PICTURE, 400, "invalid_request_error", "image_too_large", None, "..."),
    (FINAL, 400, "invalid_request_error", "string_above_max_length", "prompt", "Expected at most 32000 characters."),
    (FINAL, 400, "invalid_request_error", "invalid_value", "prompt", "Invalid value: 'our billing hard limit'."),
    (FINAL, 400, "invalid_request_error", "quota_word", "prompt", "..."),
    (FINAL, 400, "invalid_request_error", None, None, "A sentence about quota, billing and an API key."),
    (FINAL, 413, None, None, None, "Request too large"),
    (FINAL, 418, None, None, None, ""),
    # Passing, whatever else it says
    *((PASSING, status, None, None, None, "") for status in (408, 409, 425, 500, 502, 503, 504, *range(520, 528))),
    (PASSING, 500, "insufficient_quota", None, None, "..."),
    (PASSING, 503, "server_error", "slow_down", None, "..."),
]


def answer(status: int, kind: str | None, code: str | None, param: str | None, message: str | None) -> Answer:
    body = {"error": {"message": message, "type": kind, "code": code, "param": param}}
    return received(status, json=body)


def received(status: int, headers: dict[str, str] | None = None, **body: Any) -> Answer:
    """Read as the SDK hands it over."""
    request = httpx2.Request("POST", "https://api.openai.com/v1/images/edits")
    response = httpx2.Response(status, headers=headers, request=request, **body)
    return Answer.of(response)


def test_every_answer_of_the_sandbox_has_its_meaning() -> None:
    said = {name: meaning(answer(status, *rest)) for name, (status, *rest) in REAL.items()}
    assert said == SANDBOX


@pytest.mark.parametrize(("means", "status", "kind", "code", "param", "message"), RELATIVES)
def test_relatives_mean_the_same(
    means: Meaning, status: int, kind: str | None, code: str | None, param: str | None, message: str
) -> None:
    assert meaning(answer(status, kind, code, param, message)) is means


@pytest.mark.parametrize("status", [400, 403, 404, 502])
def test_a_page_of_a_proxy_is_passing(status: int) -> None:
    assert meaning(received(status, html="<html><h1>blocked</h1></html>")) is PASSING
    assert meaning(received(status, content=b" <!DOCTYPE html>")) is PASSING


@pytest.mark.parametrize(("status", "means"), [(401, ACCOUNT), (413, FINAL), (429, RATE)])
def test_a_page_with_a_status_that_needs_no_words_means_what_it_says(status: int, means: Meaning) -> None:
    assert meaning(received(status, html="<html></html>")) is means


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"[1]",
        b'"text"',
        b'{"error": null}',
        b'{"error": [1]}',
        b'{"error": {"code": 7}}',
        b"\xff{",
    ],
)
def test_odd_bodies_are_read_without_a_traceback(body: bytes) -> None:
    assert meaning(received(400, content=body)) is FINAL
    assert meaning(received(429, content=body)) is RATE
    assert received(400, content=body).describe().startswith("OpenAI answered 400")


def test_words_without_the_usual_frame_count_too() -> None:
    assert meaning(received(429, json={"type": "insufficient_quota"})) is QUOTA
    assert meaning(received(400, json={"error": "Your request was rejected by the safety system."})) is MODERATION


@pytest.mark.parametrize(
    ("name", "means"), [("model_no_access", ACCOUNT), ("model_value_must_be", FINAL), ("model_not_found", FINAL)]
)
def test_if_the_model_lives_the_answer_is_what_it_says(name: str, means: Meaning) -> None:
    status, *rest = REAL[name]
    assert meaning(answer(status, *rest), model_lives=True) is means


@pytest.mark.parametrize(
    ("means", "error", "reason"),
    [
        (QUOTA, AccountRefused, "quota_exhausted"),
        (ACCOUNT, AccountRefused, "openai_unauthorized"),
        (GONE, AccountRefused, "openai_model_unavailable"),
        (MODERATION, ModerationBlocked, "moderation_blocked"),
        (RATE, RateLimited, "rate_limited"),
        (PICTURE, ImageError, "image_invalid"),
        (FINAL, EditFailed, "edit_failed"),
    ],
)
def test_each_meaning_has_its_error(means: Meaning, error: type, reason: str) -> None:
    raised = as_error(Answer(400, retry_after=7), means)
    assert (type(raised), raised.reason) == (error, reason)
    assert getattr(raised, "retry_after", 7) == 7


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "17"}, 17),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": "inf"}, 3600),
        ({"retry-after": "1e9"}, 3600),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2215 07:28:00 GMT"}, 3600),
        ({"retry-after": "Wed, 99 Foo 2015"}, 0),
        ({"retry-after": "tomorrow"}, 0),
    ],
)
def test_the_wait_that_is_asked_for_is_understood_and_bounded(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == seconds


def test_a_date_is_a_wait_until_then() -> None:
    assert retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)
    assert retry_after({"retry-after": formatdate(time.time() + 30)}) == pytest.approx(30, abs=2)  # "-0000"


@pytest.mark.parametrize(
    ("sentence", "cleaned"),
    [
        ("Unknown parameter: 'output_format'.", "Unknown parameter: 'output_format'."),
        ("Incorrect API key provided: sk-proj-a_B-c***yz. See", "Incorrect API key provided: <key> See"),
        ("Incorrect API key provided: whatever1. See", "Incorrect API key provided: <key> See"),
        ("key sk-abc\nnext\r\n\tline\x1b[31m", "key <key> next line [31m"),
        ("see https://host/a?token=x, or www.host.org", "see <url> or <url>"),
        ("write to a.b@example.com.", "write to <e-mail>"),
        (f"Invalid value: '{'a lady in red ' * 9}'.", "Invalid value: '…'."),
        ("about a customer's own words here", "about *** here"),
    ],
)
def test_openais_sentence_reaches_the_log_without_what_is_private(sentence: str, cleaned: str) -> None:
    assert clean(sentence, "a customer's own words", "") == cleaned


def test_a_long_sentence_is_cut() -> None:
    assert len(clean("word " * 500)) == MAX_SENTENCE


@pytest.mark.parametrize("part", ["x", "violates the ", "'x", "model ", "a://", "@"])
def test_an_answer_that_repeats_the_request_is_read_at_once(part: str) -> None:
    answer = received(400, json={"error": {"message": part * (100_000 // len(part))}})
    began_at = time.process_time()
    assert meaning(answer) in (FINAL, GONE)
    answer.describe()
    assert time.process_time() - began_at < 3


def test_the_log_names_status_code_sentence_and_request() -> None:
    body = {"error": {"message": "Unknown parameter: 'x'.", "code": "unknown_parameter"}}
    described = received(400, {"x-request-id": "req_Ab-1"}, json=body).describe()
    assert described == "OpenAI answered 400 unknown_parameter: Unknown parameter: 'x'. (req_Ab-1)"
