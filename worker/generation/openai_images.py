"""The paid call: several pictures and a prompt become one picture, with what it cost."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import openai
import stamina
from openai import AsyncOpenAI

from worker import image_models
from worker.errors import EditFailed, ImageError, ServiceOutage
from worker.generation import metrics, openai_metrics, openai_picture
from worker.generation.model_watch import ModelWatch, Verdict
from worker.generation.openai_answers import UNAVAILABLE, Answer, Meaning, as_error, is_html, meaning
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)
Timer = Callable[[str], AbstractContextManager[None]]

#: A retry waits as long as OpenAI asks, up to this.
_RETRY_WAIT_MAX_SECONDS = 30.0
#: Nothing that is told after a call may keep a paid picture waiting for longer.
_TELL_SECONDS = 2.0


def client(settings: Settings, on_sent: Callable[[], Awaitable[None]] | None = None) -> AsyncOpenAI:
    """The official client with its own retries off: ours count against the rate limit and stay inside the deadline.

    `on_sent` is awaited, in the caller's task, when a request has been written to the network; it must not raise.
    """

    async def trace(event: str, _: object) -> None:
        if on_sent and event.endswith("send_request_body.complete"):
            await on_sent()

    async def watch(request: Any) -> None:
        # In one piece: the form would be sent in 30, each of which costs as much as a call to Redis.
        await request.aread()
        if request.method == "POST":  # a question about a model has no turn
            request.extensions["trace"] = trace

    # No read time-out: the generation's deadline ends a call that never answers.
    timeout = openai.Timeout(None, connect=10.0)
    return AsyncOpenAI(
        api_key=settings.openai_api_key.get_secret_value(),
        base_url=settings.openai_base_url,
        max_retries=0,
        timeout=timeout,
        http_client=openai.DefaultAsyncHttpx2Client(timeout=timeout, trust_env=False, event_hooks={"request": [watch]}),
    )


@dataclass(frozen=True)
class Edit:
    """One answer of OpenAI: the picture's bytes as they came, and the usage block."""

    image: bytes
    model: str
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None


@dataclass(frozen=True)
class _Order:
    images: list[bytes]
    prompt: str
    on_call: Callable[[], Awaitable[None]]
    step: Timer


class _Passing(Exception):
    """OpenAI is unavailable for the moment; the text is for the log."""

    def __init__(self, detail: str, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class _ModelGone(Exception):
    """The call's model is gone, or seems to be; the text is for the log."""

    def __init__(self, detail: str, verdict: Verdict) -> None:
        super().__init__(detail)
        self.verdict = verdict


class ImageEditor:
    """Calls the image edit endpoint; retries what contracts.md section 4 says, inside the caller's deadline.

    `on_answer` is awaited after each request: True when OpenAI is available, whatever it says, False when it answers
    408, 409, 425 or 5xx, or not at all. `fetch` downloads a picture that comes as an address.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        settings: Settings,
        wait_for_turn: Callable[[], Awaitable[Any]],
        on_answer: Callable[[bool], Awaitable[None]] | None = None,
        fetch: Callable[[str], Awaitable[bytes]] | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._wait_for_turn = wait_for_turn
        self._on_answer = on_answer
        self._fetch = fetch
        self.models = ModelWatch(client, settings)
        both = (self.models.first, self.models.fallback)
        openai_metrics.expect(both)
        self._parameters = {model: self._parameters_of(model) for model in both}

    async def edit(
        self, images: list[bytes], prompt: str, on_call: Callable[[], Awaitable[None]], step: Timer = metrics.step
    ) -> Edit:
        """One picture from JPEGs in the given order; `on_call` is awaited before each request; what it raises passes.

        `step` times the wait for the turn and the request.

        Raises:
            RateLimited: OpenAI answered 429; nothing was retried.
            AccountRefused: OpenAI refuses the account, for want of money or permission, or has neither model.
            ModerationBlocked: the content was refused.
            ImageError: one of the pictures cannot be used.
            ServiceOutage: 5xx and broken connections once the retries are used up.
            EditFailed: any other final answer.
        """
        order = _Order(images, prompt, on_call, step)
        # Each delay is longer than the one before: 1, 2, 4 seconds and up to one more, so that callers spread.
        attempts = stamina.retry_context(
            on=_wait,
            attempts=self._settings.openai_max_retries + 1,
            timeout=None,
            wait_initial=1,
            wait_max=_RETRY_WAIT_MAX_SECONDS,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    return await self._with_a_living_model(order)
        except _Passing as error:
            detail = f"OpenAI failed after {self._settings.openai_max_retries} retries: {error}"
            raise ServiceOutage(UNAVAILABLE, detail) from error
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _with_a_living_model(self, order: _Order) -> Edit:
        try:
            return await self._call(order, self.models.in_use)
        except _ModelGone as gone:
            if gone.verdict is Verdict.GONE:
                self.models.fall_back(str(gone))
        return await self._call(order, self.models.fallback)

    async def _call(self, order: _Order, model: str) -> Edit:
        with order.step("limiter_wait"):
            await self._wait_for_turn()
        await order.on_call()
        body = await self._send(order, model)
        try:
            edit = await self._read(body, model)
        except EditFailed:
            openai_metrics.answered(model, "unreadable")
            raise
        openai_metrics.answered(model, "ok")
        return edit

    async def _send(self, order: _Order, model: str) -> bytes:
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
            raise await self._refusal(Answer.of(error), model, order.prompt) from error
        except openai.APIConnectionError as error:
            openai_metrics.answered(model, "connection_error")
            await self._tell(available=False)
            raise _Passing(f"OpenAI connection: {type(error.__cause__ or error).__name__}") from error
        except asyncio.CancelledError:
            openai_metrics.answered(model, "abandoned")
            raise
        if is_html(response.headers, response.content):
            openai_metrics.answered(model, Meaning.PASSING.value)
            await self._tell(available=False)
            raise _Passing(f"OpenAI answered {response.status_code} with a page of HTML")
        await self._tell(available=True)
        return response.content

    async def _refusal(self, answer: Answer, model: str, prompt: str) -> Exception:
        """The error that stands for an answer, after the model has been asked for if the answer speaks of it."""
        means = meaning(answer)
        await self._tell(available=means is not Meaning.PASSING)
        verdict = Verdict.ALIVE
        if means is Meaning.MODEL_GONE:
            verdict = await self.models.judge(model, answer)
            # With both models refused, a hint in the sentence is no proof; the request may be at fault.
            last_hint = model == self.models.fallback and not answer.is_about_the_model
            if verdict is Verdict.ALIVE or (verdict is Verdict.UNKNOWN and last_hint):
                means = meaning(answer, model_lives=True)
        openai_metrics.answered(model, means.value)
        secrets = (prompt, self._settings.openai_api_key.get_secret_value())
        if means is Meaning.PASSING:
            return _Passing(answer.describe(*secrets), answer.retry_after)
        if means is Meaning.MODEL_GONE and model != self.models.fallback:
            return _ModelGone(answer.describe(*secrets), verdict)
        return as_error(answer, means, *secrets)

    async def _read(self, body: bytes, model: str) -> Edit:
        answer = openai_picture.read(body)
        used = openai_picture.usage(answer, self._settings.price(model))
        picture = openai_picture.picture(answer)
        if isinstance(picture, str):
            picture = await self._download(picture)
        return Edit(picture, model, used.input_tokens, used.output_tokens, used.cost_usd)

    async def _download(self, url: str) -> bytes:
        """OpenAI's image models send no addresses; a gateway before them may."""
        if self._fetch is None:
            raise EditFailed("OpenAI's answer has an address instead of a picture (b64_json)")
        try:
            return await self._fetch(url)
        except ImageError as error:
            raise EditFailed(f"OpenAI's picture cannot be downloaded: {type(error).__name__}") from error

    async def _tell(self, *, available: bool) -> None:
        """The caller's hook must not cost a picture that is paid for."""
        if self._on_answer is None:
            return
        try:
            async with asyncio.timeout(_TELL_SECONDS):
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


def _wait(error: Exception) -> bool | float:
    """The delay before a retry: OpenAI's own if it names one, else the growing one."""
    if not isinstance(error, _Passing):
        return False
    return min(error.retry_after, _RETRY_WAIT_MAX_SECONDS) + random.random() if error.retry_after else True  # noqa: S311
