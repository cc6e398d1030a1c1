"""Metrics of calls to OpenAI: results, tokens and cost, and the pictures that went in and out."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import product

from worker.generation.channel import Channel
from worker.generation.openai.meaning import Meaning
from worker.metrics import counter, gauge

RESULTS = ("ok", *(means.value for means in Meaning), "connection_error", "unreadable", "abandoned")

_CALLS = counter("wearon_openai_calls_total", "Calls to the image API by what came back.", ("model", "result"))
_TOKENS = counter("wearon_openai_tokens_total", "Tokens of answered calls.", ("channel", "model", "direction"))
_COST = counter("wearon_openai_cost_usd_total", "Price of answered calls in USD.", ("channel", "model"))
FALLBACK = gauge("wearon_openai_fallback_in_use", "1 once the fallback model took over.")
SHUTDOWN = gauge(
    "wearon_openai_model_shutdown_timestamp_seconds",
    "When OpenAI will shut the model down; 0: not announced.",
    ("model",),
)
_BYTES = counter("wearon_image_bytes_total", "Bytes of pictures.", ("direction",), ("in", "out"))
_IMAGES = counter("wearon_images_total", "Pictures.", ("direction",), ("in", "out"))


def expect(models: Iterable[str]) -> None:
    """Start the series of these models with 0; there are no others."""
    for model in models:
        SHUTDOWN.labels(model)
        for result in RESULTS:
            _CALLS.labels(model, result)
        for channel, direction in product(Channel, ("input", "output")):
            _TOKENS.labels(channel, model, direction)
            _COST.labels(channel, model)


def answered(model: str, result: str) -> None:
    """Count a call that has ended."""
    _CALLS.labels(model, result).inc()


def shutdown(model: str, day: date | None) -> None:
    """Set the day of the announced shutdown, if there is one."""
    SHUTDOWN.labels(model).set(datetime.combine(day, time(), UTC).timestamp() if day else 0)


def spent(
    channel: Channel, model: str, input_tokens: int | None, output_tokens: int | None, cost: Decimal | None
) -> None:
    """Count the usage of a paid picture; None: the answer did not say."""
    _TOKENS.labels(channel, model, "input").inc(input_tokens or 0)
    _TOKENS.labels(channel, model, "output").inc(output_tokens or 0)
    _COST.labels(channel, model).inc(float(cost or 0))


def image(direction: str, size: int) -> None:
    """Count a customer's picture that came in, or a finished picture that went out."""
    _IMAGES.labels(direction).inc()
    _BYTES.labels(direction).inc(size)
