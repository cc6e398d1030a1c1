"""The editor against the sandbox's image API: what is retried, which model is asked, what comes out."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import openai
import pytest
import structlog

from tests.sandbox import Sandbox
from worker.errors import (
    AccountRefused,
    EditFailed,
    GenerationError,
    ImageUnavailable,
    ModerationBlocked,
    RateLimited,
    ServiceOutage,
)
from worker.generation import openai_images
from worker.generation.openai import metrics as openai_metrics
from worker.generation.openai.edit import Edit
from worker.generation.openai_images import ImageEditor
from worker.settings import load

FIRST, FALLBACK = "gpt-image-2.6-sunburst", "gpt-image-2.6-flare"
SOON = (datetime.now(UTC) + timedelta(days=40)).strftime("%Y-%m-%d")
TODAY = datetime.now(UTC).strftime("%Y-%m-%d")
#: A real JPEG, as far as the sandbox looks.
PHOTO = b"\xff\xd8\xff"

Editing = Callable[..., Any]


async def nothing(*_: object) -> None:
    pass


@pytest.fixture
def editing(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Editing:
    """`async with editing(...) as editor`: settings by name, the editor's hooks by theirs."""
    sandbox.openai.set(compose=False)

    @asynccontextmanager
    async def start(wait_for_turn: Any = nothing, **options: Any) -> AsyncIterator[ImageEditor]:
        hooks = {name: options.pop(name) for name in ("on_answer", "fetch") if name in options}
        for name, value in sandbox.env(**{"OPENAI_MAX_RETRIES": "0", **options}).items():
            monkeypatch.setenv(name, value)
        settings = load()
        async with openai_images.client(settings) as client:
            yield ImageEditor(client, settings, wait_for_turn=wait_for_turn, **hooks)

    return start


async def edit(editor: ImageEditor, prompt: str = "try it on") -> Edit:
    return await editor.edit([PHOTO], prompt, nothing)


def models(sandbox: Sandbox) -> list[str]:
    return [call.model for call in sandbox.calls()]


async def test_the_request_is_what_the_contract_says(sandbox: Sandbox, editing: Editing) -> None:
    async with editing() as editor:
        made = await edit(editor)
    (call,) = sandbox.calls()
    assert call.model == made.model == FIRST
    assert call.parameters == {"n": "1", "size": "1024x1536", "quality": "medium", "output_format": "jpeg"}
    assert [(part.field, part.content_type, part.data) for part in call.images] == [("image[]", "image/jpeg", PHOTO)]
    assert made.input_tokens
    assert made.cost_usd


async def test_a_parameter_that_the_model_does_not_take_is_left_out_and_said(
    sandbox: Sandbox, editing: Editing
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with editing(OPENAI_IMAGE_MODEL="gpt-image-1.5", OPENAI_IMAGE_QUALITY="max") as editor:
            await edit(editor)
    assert sandbox.calls()[0].parameters == {"n": "1", "size": "1024x1536", "output_format": "jpeg"}
    (line,) = [line for line in lines if line["event"] == "openai_parameter_left_out"]
    assert (line["model"], line["parameter"], line["value"]) == ("gpt-image-1.5", "quality", "max")


# The model is gone


@pytest.mark.parametrize(
    "way", ["model_not_found", "model_deprecated", "model_does_not_exist", "model_value_must_be", "model_no_access"]
)
async def test_a_model_that_is_gone_is_confirmed_once_and_replaced_for_good(
    sandbox: Sandbox, editing: Editing, way: str
) -> None:
    sandbox.openai.set(shut_down={FIRST: way})
    with structlog.testing.capture_logs() as lines:
        async with editing() as editor:
            made = [await edit(editor) for _ in range(3)]
    assert [one.model for one in made] == [FALLBACK] * 3
    assert models(sandbox) == [FIRST, FALLBACK, FALLBACK, FALLBACK]
    assert sandbox.openai.lookups() == [FIRST]
    assert [line["event"] for line in lines].count("openai_model_fallback_used") == 1


async def test_a_crowd_asks_for_the_model_once(sandbox: Sandbox, editing: Editing) -> None:
    sandbox.openai.set(shut_down={FIRST: "model_does_not_exist"})
    async with editing() as editor:
        made = await asyncio.gather(*(edit(editor) for _ in range(10)))
    assert {one.model for one in made} == {FALLBACK}
    assert sandbox.openai.lookups() == [FIRST]


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        ("model_value_must_be", EditFailed, "edit_failed"),
        ("model_does_not_exist", EditFailed, "edit_failed"),
        ("model_no_access", AccountRefused, "openai_unauthorized"),
    ],
)
async def test_a_model_that_lives_is_not_replaced(
    sandbox: Sandbox, editing: Editing, kind: str, error: type[Exception], reason: str
) -> None:
    sandbox.openai.fault(kind, on="images/edits", times=2)
    async with editing() as editor:
        for _ in range(2):
            with pytest.raises(error) as caught:
                await edit(editor)
            assert caught.value.reason == reason  # type: ignore[attr-defined]
        assert (await edit(editor)).model == FIRST
    assert sandbox.openai.lookups() == [FIRST]


async def test_a_model_that_is_listed_on_its_last_day_counts_as_gone(sandbox: Sandbox, editing: Editing) -> None:
    sandbox.openai.fault("model_not_found", on="images/edits", model=FIRST)
    sandbox.openai.set(shutdown_dates={FIRST: TODAY})
    async with editing() as editor:
        assert [(await edit(editor)).model for _ in range(2)] == [FALLBACK] * 2
    assert models(sandbox) == [FIRST, FALLBACK, FALLBACK]


@pytest.mark.parametrize("kind", ["server_error", "drop", "rate_limited"])
async def test_without_a_confirmation_each_generation_tries_the_fallback_and_nothing_is_decided(
    sandbox: Sandbox, editing: Editing, kind: str
) -> None:
    sandbox.openai.fault("model_not_found", on="images/edits", model=FIRST, times=2)
    sandbox.openai.fault(kind, on="models")
    async with editing() as editor:
        assert [(await edit(editor)).model for _ in range(3)] == [FALLBACK, FALLBACK, FIRST]
    assert sandbox.openai.lookups() == [FIRST]


@pytest.mark.parametrize(("way", "again"), [("model_not_found", FALLBACK), ("model_value_must_be", FIRST)])
async def test_a_key_that_may_not_look_trusts_plain_words_only(
    sandbox: Sandbox, editing: Editing, way: str, again: str
) -> None:
    sandbox.openai.fault(way, on="images/edits", model=FIRST, times=1)
    sandbox.openai.fault("restricted_key", on="models")
    async with editing() as editor:
        assert (await edit(editor)).model == FALLBACK
        assert (await edit(editor)).model == again


@pytest.mark.parametrize("way", ["model_not_found", "model_does_not_exist", "model_value_must_be", "model_no_access"])
@pytest.mark.parametrize("looks", ["", "server_error", "restricted_key"])
async def test_two_models_that_are_gone_are_the_accounts_matter(
    sandbox: Sandbox, editing: Editing, way: str, looks: str
) -> None:
    sandbox.openai.set(shut_down={FIRST: way, FALLBACK: way})
    if looks:
        sandbox.openai.fault(looks, on="models")
    async with editing() as editor:
        for _ in range(2):
            with pytest.raises(AccountRefused) as caught:
                await edit(editor)
            assert caught.value.reason == "openai_model_unavailable"


async def test_a_hint_from_both_models_without_a_confirmation_is_the_requests_fault(
    sandbox: Sandbox, editing: Editing
) -> None:
    sandbox.openai.fault("status", on="images/edits", status=400, message="This model takes no such picture.")
    sandbox.openai.fault("server_error", on="models")
    async with editing() as editor:
        with pytest.raises(EditFailed, match="takes no such picture"):
            await edit(editor)


async def test_the_same_model_twice_is_no_endless_loop(sandbox: Sandbox, editing: Editing) -> None:
    sandbox.openai.set(shut_down={FIRST: "model_not_found"})
    async with editing(OPENAI_IMAGE_FALLBACK_MODEL=FIRST) as editor:
        with pytest.raises(AccountRefused):
            await edit(editor)
    assert models(sandbox) == [FIRST]


# The shutdown to come


def announced(model: str) -> float:
    (family,) = openai_metrics.SHUTDOWN.collect()
    (found,) = [sample.value for sample in family.samples if sample.labels["model"] == model]
    return found


async def test_the_announced_shutdown_is_published_and_its_absence_is_silent(
    sandbox: Sandbox, editing: Editing
) -> None:
    sandbox.openai.set(shutdown_dates={FIRST: SOON})
    async with editing() as editor:
        await editor.models.look_at_both()
        day = datetime.fromisoformat(SOON).replace(tzinfo=UTC)
        assert (announced(FIRST), announced(FALLBACK)) == (day.timestamp(), 0)
        sandbox.openai.set(shutdown_dates={})
        await editor.models.look_at_both()
    assert announced(FIRST) == 0
    assert sandbox.calls() == []


async def test_a_model_that_lives_again_is_used_again(sandbox: Sandbox, editing: Editing) -> None:
    sandbox.openai.set(shut_down={FIRST: "model_not_found"})
    async with editing() as editor:
        await edit(editor)
        await editor.models.look_at_both()
        assert (await edit(editor)).model == FALLBACK
        sandbox.openai.set(shut_down={})
        await editor.models.look_at_both()
        assert (await edit(editor)).model == FIRST


@pytest.mark.parametrize("kind", ["server_error", "drop", "unauthorized", "garbage", "html", "status"])
async def test_a_look_that_fails_changes_nothing(sandbox: Sandbox, editing: Editing, kind: str) -> None:
    sandbox.openai.fault(kind, on="models", **({"status": 418} if kind == "status" else {}))
    async with editing() as editor:
        assert not await editor.models.look_at_both()
        assert editor.models.in_use == FIRST


# What is available


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("odd_usage", {}, [True]),
        ("garbage", {}, [True]),
        ("moderation_blocked", {}, [True]),
        ("insufficient_quota", {}, [True]),
        ("rate_limited", {}, [True]),
        ("server_error", {"status": 500}, [False]),
        ("server_error", {"status": 524}, [False]),
        ("status", {"status": 408}, [False]),
        ("status", {"status": 409}, [False]),
        ("html", {"status": 200}, [False]),
        ("drop", {}, [False]),
        ("drop_midway", {}, [False]),
    ],
)
async def test_each_request_tells_whether_openai_is_available(
    sandbox: Sandbox, editing: Editing, kind: str, options: dict[str, Any], told: list[bool]
) -> None:
    heard: list[bool] = []

    async def on_answer(available: bool) -> None:
        heard.append(available)

    sandbox.openai.fault(kind, **options)
    async with editing(on_answer=on_answer) as editor:
        with suppress(GenerationError):
            await edit(editor)
    assert heard == told


async def test_a_hook_that_fails_costs_no_picture(editing: Editing) -> None:
    async def broken(available: bool) -> None:
        raise OSError(str(available))

    async with editing(on_answer=broken) as editor:
        assert (await edit(editor)).image


async def test_passing_errors_end_as_an_outage_with_openais_words(sandbox: Sandbox, editing: Editing) -> None:
    sandbox.openai.fault("server_error")
    async with editing(OPENAI_MAX_RETRIES="1") as editor:
        with pytest.raises(ServiceOutage, match="after 1 retries: OpenAI answered 500 server_error: The server had"):
            await edit(editor)
    assert len(sandbox.calls()) == 2


@pytest.mark.parametrize(
    ("error", "raised", "available"),
    [
        ({"code": 429, "message": "Too many requests"}, RateLimited, True),
        ({"code": "rate_limit_exceeded", "message": "Slow down"}, RateLimited, True),
        ({"code": "moderation_blocked", "message": "Your request was rejected"}, ModerationBlocked, True),
        ({"type": "insufficient_quota", "message": "..."}, AccountRefused, True),
        ({"type": "server_error", "message": "Sorry about that!"}, ServiceOutage, False),
        ({"code": "502", "message": "Bad gateway"}, ServiceOutage, False),
        ({"type": "api_error", "message": "Internal server error"}, ServiceOutage, False),
        ({"code": "bad_gateway"}, ServiceOutage, False),
        ({"code": "moderation_blocked", "type": "image_generation_server_error"}, ModerationBlocked, True),
        ({"code": "insufficient_quota", "type": "service_unavailable"}, AccountRefused, True),
        ({"type": "rate_limit_error", "message": "Too many requests"}, RateLimited, True),
        ("Rate limit exceeded", RateLimited, True),
        ("upstream request timed out", ServiceOutage, False),
        ({"code": "invalid_value", "message": "Unknown size"}, EditFailed, True),
    ],
)
async def test_an_error_with_a_status_of_success_means_what_it_says_and_is_not_paid_for(
    sandbox: Sandbox, editing: Editing, error: object, raised: type[GenerationError], available: bool
) -> None:
    heard: list[bool] = []

    async def on_answer(available: bool) -> None:
        heard.append(available)

    sandbox.openai.fault("error_in_success", error=error)
    async with editing(on_answer=on_answer) as editor:
        with pytest.raises(GenerationError) as caught:
            await edit(editor)
    assert (type(caught.value), heard) == (raised, [available])


async def test_an_open_breaker_passes_and_ends_the_retries(sandbox: Sandbox, editing: Editing) -> None:
    turns = iter([None])

    async def wait_for_turn() -> None:
        if next(turns, "open") == "open":
            raise ServiceOutage("openai_unavailable", "the breaker is open")

    sandbox.openai.fault("server_error")
    async with editing(wait_for_turn=wait_for_turn, OPENAI_MAX_RETRIES="5") as editor:
        with pytest.raises(ServiceOutage, match="the breaker is open"):
            await edit(editor)
    assert len(sandbox.calls()) == 1


async def test_a_retry_waits_as_long_as_openai_asks(sandbox: Sandbox, editing: Editing) -> None:
    sandbox.openai.fault("status", status=503, retry_after=2.5, times=1)
    async with editing(OPENAI_MAX_RETRIES="1") as editor:
        await edit(editor)
    first, second = sandbox.calls()
    assert second.started - (first.finished or 0) >= 2.5


# The paid picture


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("odd_usage", {}),
        ("odd_usage", {"usage": None}),
        ("odd_usage", {"usage": {"input_tokens": "many", "output_tokens": [], "input_tokens_details": 3}}),
        ("odd_fields", {"created": "yesterday", "size": 7, "background": {}, "quality": [None], "new": [[]]}),
        ("wrapped", {}),
    ],
)
async def test_a_paid_picture_is_delivered_whatever_is_around_it(
    sandbox: Sandbox, editing: Editing, kind: str, options: dict[str, Any]
) -> None:
    sandbox.openai.fault(kind, **options)
    async with editing() as editor:
        made = await edit(editor)
    assert made.image.startswith(b"\xff\xd8\xff")
    assert (made.cost_usd is None) == (kind == "odd_usage")


async def test_a_picture_that_comes_as_an_address_is_downloaded(sandbox: Sandbox, editing: Editing) -> None:
    async def fetch(url: str) -> bytes:
        if url.endswith("gone.png"):
            raise ImageUnavailable("404")
        return base64.b64decode("/9j/")

    sandbox.openai.fault("as_url", url="https://host.example/a.png", times=1)
    sandbox.openai.fault("as_url", url="https://host.example/gone.png")
    async with editing(fetch=fetch) as editor:
        assert (await edit(editor)).image == b"\xff\xd8\xff"
        with pytest.raises(EditFailed, match="ImageUnavailable"):
            await edit(editor)
    async with editing() as editor:
        with pytest.raises(EditFailed, match="an address instead of a picture"):
            await edit(editor)


async def test_the_log_has_openais_sentence_without_prompt_and_key(sandbox: Sandbox, editing: Editing) -> None:
    prompt = "a red dress for Ann"
    message = f"Bad prompt: {prompt}, key {sandbox.openai_key}"
    sandbox.openai.fault("status", status=400, message=message)
    async with editing() as editor:
        with pytest.raises(EditFailed, match=r"Bad prompt: \*\*\*, key \*\*\* \(req_"):
            await edit(editor, prompt)


async def test_a_question_about_a_model_is_no_call_for_the_limiter(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox.env().items():
        monkeypatch.setenv(name, value)
    sent: list[int] = []

    async def on_sent() -> None:
        sent.append(1)

    async with openai_images.client(load(), on_sent) as client:
        await client.models.retrieve(FIRST)
        with pytest.raises(openai.APIStatusError):
            await client.images.edit(model="none", image=[("a.jpg", PHOTO, "image/jpeg")], prompt="x")
    assert len(sent) == 1
