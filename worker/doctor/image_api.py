"""Checks of OpenAI: the account, and whether the model and its fallback are offered, and for how long."""

import asyncio

from worker.doctor.result import Result, fail, ok, warn
from worker.generation import openai_images
from worker.generation.openai.answers import Answer
from worker.generation.openai.meaning import Meaning, meaning
from worker.generation.openai.model_look import Look, look
from worker.settings import Settings

#: A shutdown within so many days is worth a warning, as in the alert.
WARN_DAYS = 60

_STATUS_PAGE = "check OPENAI_BASE_URL and OpenAI's status page"
_BY_HAND = "let the key read models, or check OPENAI_IMAGE_MODEL by hand"
_REFUSALS = {
    Meaning.QUOTA: fail("openai", "the account has no money or has reached its limit", "pay, or raise its limit"),
    Meaning.UNAUTHORIZED: fail("openai", "it refuses the account", "check OPENAI_API_KEY and the organization"),
    Meaning.PASSING: fail("openai", "it is unavailable", _STATUS_PAGE),
    Meaning.RATE_LIMITED: warn("openai", "it answers, but limits the rate", "try again in a minute"),
}
_NO_MODELS = warn("openai", "it answers, but does not show its models", _BY_HAND)


async def models(settings: Settings) -> list[Result]:
    """Check that OpenAI accepts the account, and until when the model and its fallback are offered."""
    model, fallback = settings.openai_image_model, settings.openai_image_fallback_model
    async with openai_images.client(settings) as client:
        first, second = await asyncio.gather(look(client, model), look(client, fallback))
    if first.lives is None and second.lives is None:
        return [_refusal(first)]
    if not first.lives and not second.lives:
        what = f"neither {model} nor {fallback} is offered"
        return [fail("openai", what, "set OPENAI_IMAGE_MODEL to a model that this key may use")]
    return [
        _model("openai model", "OPENAI_IMAGE_MODEL", model, first),
        _model("openai fallback", "OPENAI_IMAGE_FALLBACK_MODEL", fallback, second),
    ]


def _refusal(seen: Look) -> Result:
    if seen.answer is None:
        return fail("openai", f"no usable answer: {seen.problem}", _STATUS_PAGE)
    result = _NO_MODELS if _only_the_list_is_refused(seen.answer) else _REFUSALS.get(meaning(seen.answer), _NO_MODELS)
    return Result(result.name, result.status, f"{result.what}: {seen.problem}", result.remedy)


def _only_the_list_is_refused(answer: Answer) -> bool:
    """Return True for a key that may make pictures, but not read models."""
    return answer.lacks_scope or (answer.status == 403 and not answer.is_about_permission)


def _model(name: str, setting: str, model: str, seen: Look) -> Result:
    remedy = f"choose another model in {setting}"
    if seen.lives is None:
        return warn(name, f"{model} could not be looked up: {seen.problem}", _STATUS_PAGE)
    if not seen.lives:
        return warn(name, f"{model} is not offered to this key", remedy)
    if seen.days_left is None:
        return ok(name, f"{model}, no shutdown announced")
    when = f"in {seen.days_left} days" if seen.days_left >= 0 else "in the past"
    what = f"{model} is shut down on {seen.shutdown}, {when}"
    return warn(name, what, remedy) if seen.days_left <= WARN_DAYS else ok(name, what)
