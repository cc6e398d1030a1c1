"""The image API, asked by the real `openai` client."""

import base64
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from PIL import Image

from tests.sandbox import Sandbox
from tests.sandbox.openai import answers
from tests.sandbox_tests.conftest import Parts

Edit = Callable[..., Any]


def picture(answer: Any) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json)))


def test_an_edit_composes_a_portrait_and_reports_usage(edit: Edit) -> None:
    answer = edit()

    assert (picture(answer).format, picture(answer).size) == ("JPEG", (1024, 1536))
    usage = answer.usage
    assert usage.output_tokens == 1584
    assert usage.input_tokens == usage.input_tokens_details.text_tokens + usage.input_tokens_details.image_tokens
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_the_picture_depends_on_the_garment(edit: Edit, parts: Parts) -> None:
    assert edit().data[0].b64_json == edit().data[0].b64_json
    assert edit().data[0].b64_json != edit(image=parts[:1]).data[0].b64_json


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_the_output_format_is_honoured(edit: Edit, output_format: str) -> None:
    assert picture(edit(output_format=output_format)).format == output_format.upper()


def test_calls_are_recorded_with_everything_that_was_sent(edit: Edit, parts: Parts, sandbox: Sandbox) -> None:
    edit(prompt="marker-1 please")
    edit(prompt="other")

    (call,) = sandbox.calls("marker-1")
    assert (call.model, call.status, call.outcome) == ("gpt-image-1.5", 200, "ok")
    assert call.parameters == {"size": "1024x1536", "quality": "medium", "output_format": "jpeg"}
    sent = [(image.field, image.filename, image.content_type, image.data) for image in call.images]
    assert sent == [("image[]", name, kind, data) for name, data, kind in parts]


def test_models_tell_their_shutdown(sandbox: Sandbox) -> None:
    with openai.OpenAI(api_key=sandbox.openai_key, base_url=sandbox.openai_url) as client:
        assert client.models.retrieve("gpt-image-1.5").shutdown_date == "2026-12-01"
        assert {model.id: model.shutdown_date for model in client.models.list()}["gpt-image-2.6-sunburst"] is None
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-image-0")


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        ("rate_limited", openai.RateLimitError, "rate_limit_exceeded"),
        ("insufficient_quota", openai.RateLimitError, "insufficient_quota"),
        ("moderation_blocked", openai.BadRequestError, "moderation_blocked"),
        ("invalid_request", openai.BadRequestError, "invalid_value"),
        ("model_not_found", openai.NotFoundError, "model_not_found"),
        ("unauthorized", openai.AuthenticationError, "invalid_api_key"),
        ("server_error", openai.InternalServerError, None),
    ],
)
def test_refusals_have_openais_form(
    edit: Edit, sandbox: Sandbox, kind: str, error: type[openai.APIStatusError], code: str
) -> None:
    sandbox.openai.fault(kind, times=1)
    with pytest.raises(error) as caught:
        edit()
    assert caught.value.code == code
    assert sandbox.calls()[0].outcome == kind
    edit()


@pytest.mark.parametrize("way", ["model_not_found", "model_does_not_exist", "model_no_access"])
def test_a_model_can_be_shut_down_in_each_known_way(edit: Edit, sandbox: Sandbox, way: str) -> None:
    sandbox.openai.set(shut_down={"gpt-image-1.5": way})
    with pytest.raises(openai.APIStatusError, match=r"gpt-image-1\.5") as caught:
        edit()
    assert caught.value.status_code == answers.REAL[way][0]
    with openai.OpenAI(api_key=sandbox.openai_key, base_url=sandbox.openai_url) as client:
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-image-1.5")
        assert "gpt-image-1.5" not in {model.id for model in client.models.list()}
    assert sandbox.openai.lookups() == ["gpt-image-1.5"]
    edit(model="gpt-image-2.6-flare")


def test_a_day_of_shutdown_can_be_announced(sandbox: Sandbox) -> None:
    sandbox.openai.set(shutdown_dates={"gpt-image-2.6-flare": "2027-03-01"})
    with openai.OpenAI(api_key=sandbox.openai_key, base_url=sandbox.openai_url) as client:
        assert client.models.retrieve("gpt-image-2.6-flare").shutdown_date == "2027-03-01"


def test_what_stands_around_a_picture_can_be_odd(edit: Edit, sandbox: Sandbox) -> None:
    sandbox.openai.fault("odd_usage", times=1)
    assert edit().usage is None
    sandbox.openai.fault("odd_usage", usage={"input_tokens": None}, times=1)
    assert edit().usage.input_tokens is None
    sandbox.openai.fault("as_url", url="https://example.com/a.png", times=1)
    assert edit().data[0].url == "https://example.com/a.png"
    sandbox.openai.fault("wrapped", times=1)
    assert edit().data[0].b64_json.startswith("data:image/jpeg;base64,")


def test_moderation_names_the_violations(edit: Edit, sandbox: Sandbox) -> None:
    sandbox.openai.fault("moderation_blocked")
    with pytest.raises(openai.BadRequestError, match="safety_violations=") as caught:
        edit()
    assert caught.value.type == "image_generation_user_error"


def test_rate_limits_may_say_when_to_come_back(edit: Edit, sandbox: Sandbox) -> None:
    sandbox.openai.fault("rate_limited", retry_after=17)
    with pytest.raises(openai.RateLimitError) as caught:
        edit()
    assert caught.value.response.headers["retry-after"] == "17"


@pytest.mark.parametrize("status", [502, 503])
def test_server_errors_have_the_status_that_was_asked_for(edit: Edit, sandbox: Sandbox, status: int) -> None:
    sandbox.openai.fault("server_error", status=status)
    with pytest.raises(openai.InternalServerError) as caught:
        edit()
    assert caught.value.status_code == status


@pytest.mark.parametrize("kind", ["drop", "drop_midway"])
def test_connections_can_be_dropped(edit: Edit, sandbox: Sandbox, kind: str) -> None:
    sandbox.openai.fault(kind)
    with pytest.raises(openai.APIConnectionError):
        edit()
    assert sandbox.calls()[0].status is None


def test_a_call_can_be_left_without_an_answer(edit: Edit, sandbox: Sandbox) -> None:
    sandbox.openai.fault("hang", times=1)
    with pytest.raises(openai.APITimeoutError):
        edit(timeout=0.3)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(edit, timeout=20)
        sandbox.openai.clear()
        waiting.result(10)


def test_successes_can_be_spoiled(edit: Edit, sandbox: Sandbox) -> None:
    for kind in ("not_image", "truncated", "png", "not_base64", "empty"):
        sandbox.openai.fault(kind, times=1)
    with pytest.raises(OSError, match="cannot identify"):
        picture(edit())
    with pytest.raises(OSError, match="truncated"):
        picture(edit()).load()
    assert picture(edit()).format == "PNG"
    assert not edit().data[0].b64_json.isalnum()
    assert edit().data == []
    sandbox.openai.fault("garbage")
    with pytest.raises(json.JSONDecodeError):
        edit()


def test_faults_choose_by_prompt_model_and_number(edit: Edit, sandbox: Sandbox) -> None:
    sandbox.openai.fault("model_not_found", model="gpt-image-1.5")
    sandbox.openai.fault("moderation_blocked", contains="nude", times=1)
    edit(model="gpt-image-2.6-sunburst")
    with pytest.raises(openai.BadRequestError):
        edit(model="gpt-image-2.6-sunburst", prompt="a nude try-on")
    edit(model="gpt-image-2.6-sunburst", prompt="a nude try-on")
    with pytest.raises(openai.NotFoundError):
        edit()
    assert [fault["hits"] for fault in sandbox.openai.faults()] == [1, 1]


def test_latency_and_overlap_are_seen(edit: Edit, sandbox: Sandbox) -> None:
    sandbox.openai.set(latency=2)
    started = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: edit(), range(3)))

    assert time.monotonic() - started > 2
    summary = sandbox.openai.summary()
    assert (summary["total"], summary["peak_in_flight"], summary["in_flight"]) == (3, 3, 0)
    assert summary["max_per_minute"] == 3


def test_latency_can_be_log_normal(edit: Edit, sandbox: Sandbox) -> None:
    sandbox.openai.set(latency={"median": 0.05, "sigma": 1, "max": 0.1}, compose=False)
    edit()
    (call,) = sandbox.calls()
    assert (call.finished or 0) - call.started < 1


def test_the_account_limit_can_be_enforced(edit: Edit, sandbox: Sandbox) -> None:
    sandbox.openai.set(limit_per_minute=2)
    edit()
    edit()
    with pytest.raises(openai.RateLimitError):
        edit()


def test_what_the_models_do_not_take_is_refused(edit: Edit, parts: Parts) -> None:
    with pytest.raises(openai.BadRequestError, match="at most 16"):
        edit(image=parts[:1] * 17)
    with pytest.raises(openai.BadRequestError, match="mimetype"):
        edit(image=[("a.txt", b"x", "text/plain")])
    with pytest.raises(openai.BadRequestError, match="input_fidelity"):
        edit(model="gpt-image-2", input_fidelity="low")
    with pytest.raises(openai.NotFoundError):
        edit(model="gpt-image-0")


def test_canned_pictures_save_processor_time(edit: Edit, sandbox: Sandbox) -> None:
    sandbox.openai.set(compose=False, keep_images=0)
    assert picture(edit()).size == (1024, 1536)
    assert edit().data[0].b64_json == edit(prompt="other").data[0].b64_json


def test_an_unknown_fault_or_setting_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match=r"unknown fault 'nonsense'; there are: .*rate_limited"):
        sandbox.openai.fault("nonsense")
    with pytest.raises(ValueError, match="unknown setting nonsense"):
        sandbox.openai.set(nonsense=1)
