"""What a call costs."""

from decimal import Decimal
from types import SimpleNamespace

import pytest

from worker.generation.openai_images import cost
from worker.settings import Price

PRICE = Price(text_in=Decimal(5), text_out=Decimal(10), image_in=Decimal(8), image_out=Decimal(32))


def usage(text_in: int, image_in: int, output: int, text_out: int | None = None) -> SimpleNamespace:
    details = None if text_out is None else SimpleNamespace(text_tokens=text_out, image_tokens=output - text_out)
    return SimpleNamespace(
        input_tokens=text_in + image_in,
        output_tokens=output,
        input_tokens_details=SimpleNamespace(text_tokens=text_in, image_tokens=image_in),
        output_tokens_details=details,
    )


@pytest.mark.parametrize(
    ("used", "dollars"),
    [
        (usage(0, 0, 0), "0"),
        (usage(1_000_000, 0, 0), "5"),
        (usage(0, 1_000_000, 0), "8"),
        (usage(0, 0, 1_000_000), "32"),
        (usage(0, 0, 1_000_000, text_out=1_000_000), "10"),
        (usage(100, 500, 1584, text_out=84), "0.05334"),
    ],
)
def test_each_kind_of_token_has_its_price_and_output_without_details_is_image(
    used: SimpleNamespace, dollars: str
) -> None:
    assert cost(used, PRICE) == Decimal(dollars)


def test_the_cost_has_the_six_decimals_of_the_column() -> None:
    assert cost(usage(1, 1, 1), PRICE) == Decimal("0.000045")
