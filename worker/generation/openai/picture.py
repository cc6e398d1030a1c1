"""Read a successful answer of OpenAI. The picture is paid for: nothing around it may cost it."""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from worker.errors import EditFailed
from worker.image_models import Price
from worker.logs import get_logger

log = get_logger(__name__)

_MILLION = Decimal(1_000_000)
#: Beyond every real picture; what is more does not fit the columns of the database either.
_MAX_TOKENS = 10_000_000
_MAX_COST = Decimal(10_000)


@dataclass(frozen=True)
class Usage:
    """Tokens and price of one call; None: the answer does not say, or not in a way that can be read."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None


def read(body: bytes) -> dict[str, Any]:
    """The answer's fields."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise EditFailed(f"OpenAI's answer is no JSON: {type(error).__name__}") from error
    if not isinstance(answer, dict):
        raise EditFailed(f"OpenAI's answer is no JSON object but a {type(answer).__name__}")
    return answer


def picture(answer: dict[str, Any]) -> bytes | str:
    """The first picture's bytes, or its address when OpenAI sends that instead."""
    urls = []
    for item in _items(answer):
        for value in (item.get("b64_json"), item.get("url")):
            if isinstance(value, str) and re.match(r"https?://", value):
                urls.append(value)
            elif isinstance(value, str) and value.strip():
                return _decoded(value)
    if urls:
        return urls[0]
    raise EditFailed("OpenAI's answer has no picture")


def usage(answer: dict[str, Any], price: Price) -> Usage:
    """Read what the usage block says. Log an incomplete block once per process."""
    block = answer.get("usage")
    block = block if isinstance(block, dict) else {}
    text_in, image_in = _details(block, "input_tokens_details")
    text_out, _ = _details(block, "output_tokens_details")
    used = Usage(_tokens(block, "input_tokens"), _tokens(block, "output_tokens"))
    if None in (used.input_tokens, used.output_tokens, text_in, image_in):
        _warn_once(block)
    if used.output_tokens is None or text_in is None or image_in is None:
        return used
    price_usd = cost(price, text_in=text_in, image_in=image_in, text_out=text_out or 0, output=used.output_tokens)
    return Usage(used.input_tokens, used.output_tokens, price_usd if price_usd < _MAX_COST else None)


def cost(price: Price, *, text_in: int, image_in: int, text_out: int, output: int) -> Decimal:
    """USD of one call. Output without details is image output: OpenAI often leaves the details out."""
    text_out = min(text_out, output)
    total = (
        text_in * price.text_in
        + image_in * price.image_in
        + text_out * price.text_out
        + (output - text_out) * price.image_out
    )
    return (total / _MILLION).quantize(Decimal("0.000001"))


def _items(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    data = answer.get("data")
    return (item for item in (data if isinstance(data, list) else [data]) if isinstance(item, dict))


def _decoded(text: str) -> bytes:
    # Some gateways break lines, send a data: URL, or leave the padding out.
    text = "".join(re.sub(r"^\s*data:[^,]*,", "", text).split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EditFailed("OpenAI's picture is not base64") from error


def _details(block: dict[str, Any], name: str) -> tuple[int | None, int | None]:
    details = block.get(name)
    details = details if isinstance(details, dict) else {}
    return _tokens(details, "text_tokens"), _tokens(details, "image_tokens")


def _tokens(block: dict[str, Any], name: str) -> int | None:
    value = block.get(name)
    # Python's bool is an int.
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS else None


_warned = False


def _warn_once(block: dict[str, Any]) -> None:
    global _warned  # noqa: PLW0603  # once per process is meant
    if not _warned:
        _warned = True
        log.warning("openai_usage_incomplete", fields=sorted(map(str, block))[:20])
