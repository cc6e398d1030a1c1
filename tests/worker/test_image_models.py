"""Parameters and price of each model."""

from decimal import Decimal

import pytest

from worker import image_models


@pytest.mark.parametrize(
    ("model", "size", "quality", "sent"),
    [
        ("gpt-image-1.5", "1024x1536", "medium", {"size": "1024x1536", "quality": "medium"}),
        ("gpt-image-1.5", "auto", "auto", {"size": "auto", "quality": "auto"}),
        ("gpt-image-1.5", "1024x1792", "max", {}),
        ("gpt-image-2", "1024x1792", "max", {"size": "1024x1792"}),
        ("gpt-image-2.6-sunburst", "1024x1792", "max", {"size": "1024x1792", "quality": "max"}),
        ("gpt-image-2.6-flare", "1000x1500", "xhigh", {"quality": "xhigh"}),
        ("gpt-image-2.6-flare", "512x2048", "low", {"quality": "low"}),
        ("gpt-image-2.6-flare", "0x0", "low", {"quality": "low"}),
        ("another", "1x1", "max", {"size": "1x1", "quality": "max"}),
    ],
)
def test_a_model_is_sent_only_what_it_takes(model: str, size: str, quality: str, sent: dict[str, str]) -> None:
    assert image_models.parameters(model, size=size, quality=quality) == {"output_format": "jpeg", **sent}


def test_the_defaults_of_the_settings_suit_every_model() -> None:
    for model in image_models.MODELS:
        assert len(image_models.parameters(model, size="1024x1536", quality="medium")) == 3


@pytest.mark.parametrize(
    ("model", "image_out"),
    [
        ("gpt-image-1.5", 32),
        ("gpt-image-1.5-2025-12-16", 32),
        ("gpt-image-1-mini", 8),
        ("gpt-image-2", 30),
        ("gpt-image-2.6-sunburst", 30),
        ("gpt-image-7", 30),
    ],
)
def test_a_snapshot_costs_what_its_model_costs(model: str, image_out: int) -> None:
    assert image_models.list_price(model).image_out == Decimal(image_out)
