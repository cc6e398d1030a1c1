"""The checks of OpenAI's image API before it works, and the models that it knows."""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from tests.sandbox.openai.answers import invalid_request, rate_limited, real
from tests.sandbox.openai.calls import Call

MODELS = ("gpt-image-1.5", "gpt-image-1-mini", "gpt-image-2", "gpt-image-2.6-sunburst", "gpt-image-2.6-flare")
#: The days on which models are shut down.
SHUTDOWN_DATES = {"gpt-image-1.5": "2026-12-01", "gpt-image-1-mini": "2026-12-01"}
_TYPES = ("image/png", "image/webp", "image/jpeg")


def refusal_of(call: Call, limit_per_minute: int | None, calls_within_minute: int) -> Response | None:
    """The error that the call deserves by itself, if any."""
    too_many = limit_per_minute is not None and calls_within_minute > limit_per_minute
    wrong_type = any(part.content_type not in _TYPES for part in call.images)
    fidelity = call.model.startswith("gpt-image-2") and "input_fidelity" in call.parameters
    checks: list[tuple[bool, Callable[[], Response]]] = [
        (call.model not in MODELS, lambda: real("model_not_found", call.model)),
        (not call.prompt, lambda: invalid_request("You must provide a prompt.", "prompt")),
        (len(call.prompt) > 32000, lambda: invalid_request("'prompt' is too long: at most 32000.", "prompt")),
        (not call.images, lambda: invalid_request("Missing required parameter: 'image'.", "image")),
        (len(call.images) > 16, lambda: invalid_request("Too many images: at most 16.", "image")),
        (wrong_type, lambda: invalid_request("Invalid file 'image': unsupported mimetype.", "image")),
        (fidelity, lambda: invalid_request("This model does not support 'input_fidelity'.", "input_fidelity")),
        (too_many, lambda: rate_limited(call.model, 1)),
    ]
    return next((answer() for wrong, answer in checks if wrong), None)


def model_body(name: str, shutdown_date: str | None) -> dict[str, Any]:
    """A model as /v1/models shows it."""
    return {"id": name, "object": "model", "created": 1, "owned_by": "system", "shutdown_date": shutdown_date}
