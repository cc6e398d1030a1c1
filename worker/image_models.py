"""OpenAI's image models: the parameters that each takes, and its list price."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

DEFAULT = "gpt-image-2.6-sunburst"
FALLBACK = "gpt-image-2.6-flare"

_MULTIPLE, _RATIO_MAX = 16, 3
_Usd = Annotated[Decimal, Field(ge=0, le=1_000_000)]


class Price(BaseModel):
    """USD per million tokens of one model."""

    model_config = ConfigDict(extra="forbid")

    text_in: _Usd
    text_out: _Usd
    image_in: _Usd
    image_out: _Usd


@dataclass(frozen=True)
class ImageModel:
    """`sizes` None: any WIDTHxHEIGHT in multiples of 16 between 1:3 and 3:1."""

    price: Price
    sizes: frozenset[str] | None = None
    qualities: frozenset[str] = frozenset({"low", "medium", "high"})

    def takes_size(self, size: str) -> bool:
        """Return True if the model takes the size; every model takes `auto`."""
        if size == "auto" or self.sizes is not None:
            return size == "auto" or size in (self.sizes or ())
        match = re.fullmatch(r"(\d+)x(\d+)", size)
        width, height = (int(match[1]), int(match[2])) if match else (0, 0)
        multiples = width > 0 and height > 0 and width % _MULTIPLE == height % _MULTIPLE == 0
        return multiples and max(width, height) <= _RATIO_MAX * min(width, height)


def _price(text_in: str, image_in: str, image_out: str, text_out: str) -> Price:
    return Price(
        text_in=Decimal(text_in), image_in=Decimal(image_in), image_out=Decimal(image_out), text_out=Decimal(text_out)
    )


_FIXED = frozenset({"1024x1024", "1536x1024", "1024x1536"})
#: No text output is sold from 2 on; should some come, it counts as image output.
_PRICE_2 = _price("5", "8", "30", "30")
_FINE = frozenset({"low", "medium", "high", "xhigh", "max"})

#: By the beginning of the name, so that dated snapshots have their model's line; the longest one counts.
MODELS = {
    "gpt-image-1.5": ImageModel(_price("5", "8", "32", "10"), _FIXED),
    "gpt-image-1-mini": ImageModel(_price("2", "2.5", "8", "8"), _FIXED),
    "gpt-image-2": ImageModel(_PRICE_2),
    "gpt-image-2.5": ImageModel(_PRICE_2, qualities=_FINE),
    "gpt-image-2.6": ImageModel(_PRICE_2, qualities=_FINE),
}
#: Of a model that is not in the table: the latest models' prices, and parameters as they are set.
_UNKNOWN_PRICE = _PRICE_2


def find(model: str) -> ImageModel | None:
    """The line of the table, if there is one."""
    names = [name for name in MODELS if model == name or model.startswith(f"{name}-")]
    return MODELS[max(names, key=len)] if names else None


def list_price(model: str) -> Price:
    """OpenAI's price, as far as it is known."""
    known = find(model)
    return known.price if known else _UNKNOWN_PRICE


def parameters(model: str, *, size: str, quality: str) -> dict[str, str]:
    """Parameters beside pictures and prompt; a value that the model does not take is left out."""
    known = find(model)
    sent = {"output_format": "jpeg"}
    if known is None or known.takes_size(size):
        sent["size"] = size
    if known is None or quality == "auto" or quality in known.qualities:
        sent["quality"] = quality
    return sent
