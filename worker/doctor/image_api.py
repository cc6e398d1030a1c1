"""Checks of OpenAI: the key, and whether the models are offered and for how long."""

from datetime import UTC, date, datetime

import openai

from worker.doctor.result import Result, fail, ok, warn
from worker.generation import openai_images
from worker.settings import Settings


async def models(settings: Settings) -> list[Result]:
    """The key is accepted, and the model and its fallback are offered, for how long."""
    async with openai_images.client(settings) as client:
        try:
            offered = {model.id: model.shutdown_date for model in (await client.models.list()).data}
        except openai.AuthenticationError:
            return [fail("openai", "it does not accept the key", "check OPENAI_API_KEY")]
        except (openai.PermissionDeniedError, openai.NotFoundError, openai.RateLimitError) as error:
            what = f"it answers, but does not list its models: {error.status_code}"
            return [warn("openai", what, "let the key read models, or check OPENAI_IMAGE_MODEL by hand")]
        except openai.APIError as error:
            return [fail("openai", f"no usable answer: {error.message}", "check OPENAI_BASE_URL and its status page")]
    model, fallback = settings.openai_image_model, settings.openai_image_fallback_model
    if model not in offered and fallback not in offered:
        what = f"neither {model} nor {fallback} is offered"
        return [fail("openai", what, "set OPENAI_IMAGE_MODEL to a model that this key may use")]
    return [
        _model("openai model", "OPENAI_IMAGE_MODEL", model, offered),
        _model("openai fallback", "OPENAI_IMAGE_FALLBACK_MODEL", fallback, offered),
    ]


def _model(name: str, setting: str, model: str, offered: dict[str, str | None]) -> Result:
    remedy = f"choose another model in {setting}"
    if model not in offered:
        return warn(name, f"{model} is not offered to this key", remedy)
    shutdown = _day(offered[model])
    if shutdown is None:
        return ok(name, f"{model}, no shutdown announced")
    days = (shutdown - datetime.now(UTC).date()).days
    return warn(
        name, f"{model} is shut down on {shutdown}, {f'in {days} days' if days >= 0 else 'in the past'}", remedy
    )


def _day(value: str | None) -> date | None:
    try:
        return date.fromisoformat(value[:10]) if value else None
    except ValueError:
        return None
