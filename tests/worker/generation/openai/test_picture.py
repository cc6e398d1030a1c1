"""Reading a successful answer: the paid picture comes through, whatever stands around it."""

import base64
from decimal import Decimal
from typing import Any

import pytest
import structlog

from worker.errors import EditFailed
from worker.generation.openai import picture as openai_picture
from worker.generation.openai.picture import Usage, cost, picture, read, usage
from worker.image_models import Price

PRICE = Price(text_in=Decimal(5), text_out=Decimal(10), image_in=Decimal(8), image_out=Decimal(32))
DATA = bytes(range(256))
B64 = base64.b64encode(DATA).decode()
DETAILS = {"text_tokens": 4, "image_tokens": 6}
USAGE = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30, "input_tokens_details": DETAILS}


@pytest.mark.parametrize(
    ("text_in", "image_in", "output", "text_out", "dollars"),
    [
        (0, 0, 0, 0, "0"),
        (1_000_000, 0, 0, 0, "5"),
        (0, 1_000_000, 0, 0, "8"),
        (0, 0, 1_000_000, 0, "32"),
        (0, 0, 1_000_000, 1_000_000, "10"),
        (0, 0, 1_000_000, 2_000_000, "10"),
        (100, 500, 1584, 84, "0.05334"),
        (1, 1, 1, 0, "0.000045"),
    ],
)
def test_each_kind_of_token_has_its_price(
    text_in: int, image_in: int, output: int, text_out: int, dollars: str
) -> None:
    paid = cost(PRICE, text_in=text_in, image_in=image_in, text_out=text_out, output=output)
    assert paid == Decimal(dollars)


def test_output_without_details_is_image_output() -> None:
    assert usage({"usage": USAGE}, PRICE) == Usage(10, 20, Decimal("0.000708"))
    for details in (None, {}, {"text_tokens": None}, "none", {"text_tokens": 0, "image_tokens": 20}):
        assert usage({"usage": {**USAGE, "output_tokens_details": details}}, PRICE).cost_usd == Decimal("0.000708")


@pytest.mark.parametrize(
    ("block", "known"),
    [
        (None, (None, None)),
        ({}, (None, None)),
        ([], (None, None)),
        ("30", (None, None)),
        ({"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}, (10, 20)),
        ({**USAGE, "input_tokens_details": None}, (10, 20)),
        ({**USAGE, "input_tokens_details": {"text_tokens": 4}}, (10, 20)),
        ({**USAGE, "input_tokens_details": [4, 6]}, (10, 20)),
        ({**USAGE, "output_tokens": None}, (10, None)),
        ({**USAGE, "output_tokens": "20"}, (10, None)),
        ({**USAGE, "output_tokens": -1}, (10, None)),
        ({**USAGE, "output_tokens": True}, (10, None)),
        ({**USAGE, "output_tokens": 2**40}, (10, None)),
        ({**USAGE, "output_tokens": float("nan")}, (10, None)),
    ],
)
def test_what_the_usage_block_does_not_say_stays_empty(block: Any, known: tuple[int | None, int | None]) -> None:
    assert usage({"usage": block}, PRICE) == Usage(*known, None)
    assert usage({}, PRICE) == Usage()


def test_unknown_fields_are_no_problem() -> None:
    assert usage({"usage": {**USAGE, "cached": {"x": 1}}}, PRICE).cost_usd == Decimal("0.000708")


def test_a_price_that_does_not_fit_its_column_stays_empty() -> None:
    dear = Price(text_in=Decimal(5), text_out=Decimal(10), image_in=Decimal(8), image_out=Decimal(10**6))
    block = {**USAGE, "output_tokens": 20_000}
    assert usage({"usage": block}, dear) == Usage(10, 20_000, None)


def test_an_incomplete_block_is_logged_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_picture, "_warned", False)
    with structlog.testing.capture_logs() as lines:
        usage({"usage": {"prompt": "secret"}}, PRICE)
        usage({}, PRICE)
    assert [(line["event"], line["fields"]) for line in lines] == [("openai_usage_incomplete", ["prompt"])]


@pytest.mark.parametrize(
    "data",
    [
        [{"b64_json": B64}],
        [{"b64_json": B64, "revised_prompt": None, "url": None}],
        [{"b64_json": f"{B64[:76]}\n{B64[76:]}\r\n"}],
        [{"b64_json": f"data:image/jpeg;base64,{B64}"}],
        [{"url": f"data:image/png;base64,{B64}"}],
        [{"b64_json": B64.rstrip("=")}],
        [None, {"b64_json": None}, {"url": "https://host/a.png"}, {"b64_json": B64}],
        {"b64_json": B64},
    ],
)
def test_a_picture_is_read_however_it_is_wrapped(data: Any) -> None:
    assert picture({"data": data, "created": "yesterday", "new": {}}) == DATA


def test_an_address_is_returned_for_the_caller_to_download() -> None:
    assert picture({"data": [{"url": "https://host/a.png"}]}) == "https://host/a.png"


@pytest.mark.parametrize(
    "data", [None, [], {}, [None], [{}], [{"b64_json": ""}], [{"b64_json": 7}], [{"b64_json": "%%%"}], "text"]
)
def test_an_answer_without_a_picture_is_a_failure(data: Any) -> None:
    with pytest.raises(EditFailed):
        picture({"data": data})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe\xfd", b"[" * 100_000])
def test_a_body_that_is_no_object_is_a_failure(body: bytes) -> None:
    with pytest.raises(EditFailed):
        read(body)
