"""One request of the image edit endpoint: the answer is a picture with its usage, or an error with one meaning."""

import asyncio
from collections.abc import Awaitable, Callable

import openai
from openai import AsyncOpenAI

from worker import image_models
from worker.errors import EditFailed, ImageError
from worker.generation.openai import metrics as openai_metrics
from worker.generation.openai import picture as openai_picture
from worker.generation.openai.answers import Answer, is_html
from worker.generation.openai.edit import Edit, ModelGone, Order, Passing, PictureUnreadable
from worker.generation.openai.meaning import Meaning, as_error, meaning, with_status
from worker.generation.openai.model_watch import ModelWatch, Verdict
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)

#: A hook that is told of an answer must not keep a paid picture waiting for longer.
_HOOK_SECONDS = 2.0


class EditRequest:
    """`on_answer` and `fetch` are those of ImageEditor."""

    def __init__(
        self,
        client: AsyncOpenAI,
        settings: Settings,
        models: ModelWatch,
        on_answer: Callable[[bool], Awaitable[None]] | None,
        fetch: Callable[[str], Awaitable[bytes]] | None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._models = models
        self._on_answer = on_answer
        self._fetch = fetch
        both = (models.first, models.fallback)
        openai_metrics.expect(both)
        self._parameters = {model: self._parameters_of(model) for model in both}

    async def send(self, order: Order, model: str) -> Edit:
        """Return the picture. Raises Passing or ModelGone if another request may succeed, else GenerationError."""
        body = await self._body(order, model)
        try:
            edit = await self._read(body, model)
        except EditFailed:
            openai_metrics.answered(model, "unreadable")
            raise
        openai_metrics.answered(model, "ok")
        return edit

    async def _body(self, order: Order, model: str) -> bytes:
        """The body of a success; any other answer is raised by its meaning."""
        try:
            with order.step("edit"):
                # Raw: the SDK's models must not refuse a paid picture for a field beside it.
                response = await self._client.images.with_raw_response.edit(
                    model=model,
                    image=[(f"image-{number}.jpg", image, "image/jpeg") for number, image in enumerate(order.images)],
                    prompt=order.prompt,
                    n=1,
                    extra_body=self._parameters[model],
                )
        except openai.APIStatusError as error:
            raise await self._refusal(Answer.of(error.response), model, order.prompt) from error
        except openai.APIConnectionError as error:
            openai_metrics.answered(model, "connection_error")
            await self._tell(available=False)
            raise Passing(f"OpenAI connection: {type(error.__cause__ or error).__name__}") from error
        except asyncio.CancelledError:
            openai_metrics.answered(model, "abandoned")
            raise
        if is_html(response.headers, response.content):
            openai_metrics.answered(model, Meaning.PASSING.value)
            await self._tell(available=False)
            raise Passing(f"OpenAI answered {response.status_code} with a page of HTML")
        if answer := Answer.in_success(response.http_response):
            raise await self._refusal(with_status(answer), model, order.prompt)
        await self._tell(available=True)
        return response.content

    async def _refusal(self, answer: Answer, model: str, prompt: str) -> Exception:
        """The error that stands for an answer, after the model has been asked for if the answer speaks of it."""
        means = meaning(answer)
        await self._tell(available=means is not Meaning.PASSING)
        verdict = Verdict.ALIVE
        if means is Meaning.MODEL_GONE:
            verdict = await self._models.judge(model, answer)
            # With both models refused, a hint in the sentence is no proof; the request may be at fault.
            last_hint = model == self._models.fallback and not answer.is_about_the_model
            if verdict is Verdict.ALIVE or (verdict is Verdict.UNKNOWN and last_hint):
                means = meaning(answer, model_lives=True)
        openai_metrics.answered(model, means.value)
        secrets = (prompt, self._settings.openai_api_key.get_secret_value())
        if means is Meaning.PASSING:
            return Passing(answer.describe(*secrets), answer.retry_after)
        if means is Meaning.MODEL_GONE and model != self._models.fallback:
            return ModelGone(answer.describe(*secrets), verdict)
        return as_error(answer, means, *secrets)

    async def _read(self, body: bytes, model: str) -> Edit:
        used = openai_picture.Usage()
        try:
            answer = openai_picture.read(body)
            used = openai_picture.usage(answer, self._settings.price(model))
            picture = openai_picture.picture(answer)
            if isinstance(picture, str):
                picture = await self._download(picture)
        except EditFailed as error:
            raise PictureUnreadable(str(error), _edit(b"", model, used)) from error
        return _edit(picture, model, used)

    async def _download(self, url: str) -> bytes:
        """Download a picture from its address. OpenAI's image models send none; a gateway before them may."""
        if self._fetch is None:
            raise EditFailed("OpenAI's answer has an address instead of a picture (b64_json)")
        try:
            return await self._fetch(url)
        except ImageError as error:
            raise EditFailed(f"OpenAI's picture cannot be downloaded: {type(error).__name__}") from error

    async def _tell(self, *, available: bool) -> None:
        """Call the caller's hook, whose failure must not cost a paid picture."""
        if self._on_answer is None:
            return
        try:
            async with asyncio.timeout(_HOOK_SECONDS):
                await self._on_answer(available)
        except Exception as error:
            log.warning("openai_answer_not_counted", error=f"{type(error).__name__}: {error}")

    def _parameters_of(self, model: str) -> dict[str, str]:
        size, quality = self._settings.openai_image_size, self._settings.openai_image_quality
        sent = image_models.parameters(model, size=size, quality=quality)
        for name, value in {"size": size, "quality": quality}.items():
            if name not in sent:
                log.warning("openai_parameter_left_out", model=model, parameter=name, value=value)
        return sent


def _edit(picture: bytes, model: str, used: openai_picture.Usage) -> Edit:
    return Edit(picture, model, used.input_tokens, used.output_tokens, used.cost_usd)
