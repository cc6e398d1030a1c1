"""The paid call: several pictures and a prompt become one picture, with what it cost."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import openai
from openai import AsyncOpenAI
from stamina import AsyncRetryingCaller

from worker.errors import ServiceOutage
from worker.generation import metrics
from worker.generation.openai.edit import Edit, ModelGone, Order, Passing, Timer
from worker.generation.openai.meaning import UNAVAILABLE
from worker.generation.openai.model_watch import ModelWatch, Verdict
from worker.generation.openai.request import EditRequest
from worker.settings import Settings

#: A retry waits as long as OpenAI asks, up to this.
_RETRY_WAIT_MAX_SECONDS = 30.0


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


class ImageEditor:
    """Calls the image edit endpoint with retries and a fallback model, inside the caller's deadline.

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
        self._max_retries = settings.openai_max_retries
        # Each delay is longer than the one before: 1, 2, 4 seconds and up to one more, so that callers spread.
        self._retrying = AsyncRetryingCaller(
            attempts=self._max_retries + 1, timeout=None, wait_initial=1, wait_max=_RETRY_WAIT_MAX_SECONDS
        ).on(_wait)
        self._wait_for_turn = wait_for_turn
        self.models = ModelWatch(client, settings)
        self._request = EditRequest(client, settings, self.models, on_answer, fetch)

    async def edit(
        self,
        images: list[bytes],
        prompt: str,
        on_call: Callable[[], Awaitable[None]],
        step: Timer = metrics.step,
        on_failure: Callable[[], Awaitable[None]] | None = None,
    ) -> Edit:
        """One picture from JPEGs in the given order; `on_call` is awaited before each request, and its error passes.

        `on_failure` is awaited before the wait for a retry, when nothing is in flight. `step` times the wait for the
        turn and the request. Raises RateLimited for a 429, which is not retried, ServiceOutage once the retries are
        used up, AccountRefused, ModerationBlocked, ImageError, and EditFailed for any other final answer.
        """
        order = Order(images, prompt, on_call, step)
        try:
            return await self._retrying(self._attempt, order, on_failure)
        except Passing as error:
            detail = f"OpenAI failed after {self._max_retries} retries: {error}"
            raise ServiceOutage(UNAVAILABLE, detail) from error

    async def _attempt(self, order: Order, on_failure: Callable[[], Awaitable[None]] | None) -> Edit:
        try:
            return await self._with_a_living_model(order)
        except Passing:
            if on_failure:
                await on_failure()
            raise

    async def _with_a_living_model(self, order: Order) -> Edit:
        try:
            return await self._call(order, self.models.in_use)
        except ModelGone as gone:
            if gone.verdict is Verdict.GONE:
                self.models.fall_back(str(gone))
        return await self._call(order, self.models.fallback)

    async def _call(self, order: Order, model: str) -> Edit:
        with order.step("limiter_wait"):
            await self._wait_for_turn()
        await order.on_call()
        return await self._request.send(order, model)


def _wait(error: Exception) -> bool | float:
    """The delay before a retry: OpenAI's own if it names one, else the growing one."""
    if not isinstance(error, Passing):
        return False
    return min(error.retry_after, _RETRY_WAIT_MAX_SECONDS) + random.random() if error.retry_after else True  # noqa: S311
