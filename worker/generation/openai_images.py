"""The paid call: several pictures and a prompt become one picture, with what it cost."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import openai
import stamina
from openai import AsyncOpenAI

from worker.errors import AccountRefused, EditFailed, ModerationBlocked, RateLimited, ServiceOutage
from worker.generation import metrics as generations
from worker.generation import openai_metrics as image_api
from worker.logs import get_logger
from worker.settings import Price, Settings

log = get_logger(__name__)

_MILLION = Decimal(1_000_000)
#: Answers by code or, when that says nothing, by status.
_RESULTS: dict[str | int, str] = {
    "insufficient_quota": "quota_exhausted",
    "model_not_found": "model_not_found",
    "moderation_blocked": "moderation_blocked",
    401: "unauthorized",
    403: "unauthorized",
    429: "rate_limited",
}


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


class ImageEditor:
    """Calls the image edit endpoint; retries what contracts.md section 4 says, inside the caller's deadline."""

    def __init__(
        self,
        client: AsyncOpenAI,
        settings: Settings,
        wait_for_turn: Callable[[], Awaitable[Any]],
        on_answer: Callable[[bool], Awaitable[None]] | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._wait_for_turn = wait_for_turn
        self._on_answer = on_answer
        self.model = settings.openai_image_model
        image_api.expect([self.model, settings.openai_image_fallback_model])

    async def edit(self, images: list[bytes], prompt: str, on_call: Callable[[], Awaitable[None]]) -> Edit:
        """One picture from JPEGs in the given order; `on_call` is awaited before each request; what it raises passes.

        Raises:
            RateLimited: OpenAI answered 429; nothing was retried.
            AccountRefused: OpenAI refuses the account, for want of money or permission.
            ModerationBlocked: the content was refused.
            EditFailed: any other final answer, or 5xx and broken connections once the retries are used up.
        """
        try:
            return await self._edit_with_retries(images, prompt, on_call)
        except openai.NotFoundError as error:
            raise _final(error) from error
        except (openai.InternalServerError, openai.APIConnectionError) as error:
            raise ServiceOutage(
                "openai_unavailable",
                f"OpenAI failed after {self._settings.openai_max_retries} retries: {_describe(error)}",
            ) from error

    async def _edit_with_retries(
        self, images: list[bytes], prompt: str, on_call: Callable[[], Awaitable[None]]
    ) -> Edit:
        # Each delay is longer than the one before: 1, 2, 4 seconds and up to one more, so that callers spread.
        attempts = stamina.retry_context(
            on=(openai.InternalServerError, openai.APIConnectionError),
            attempts=self._settings.openai_max_retries + 1,
            timeout=None,
            wait_initial=1,
            wait_max=30,
        )
        async for attempt in attempts:
            with attempt:
                model = self.model
                try:
                    return await self._call(images, prompt, model, on_call)
                except openai.APIStatusError as error:
                    if not self._fall_back(error, model):
                        raise
                    return await self._call(images, prompt, self.model, on_call)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _call(self, images: list[bytes], prompt: str, model: str, on_call: Callable[[], Awaitable[None]]) -> Edit:
        with generations.step("limiter_wait"):
            await self._wait_for_turn()
        await on_call()
        async with self._told(), _translated():
            with generations.step("edit"), _counted(model):
                answer = await self._client.images.edit(
                    model=model,
                    image=[(f"image-{number}.jpg", image, "image/jpeg") for number, image in enumerate(images)],
                    prompt=prompt,
                    n=1,
                    size=self._settings.openai_image_size,
                    quality=self._settings.openai_image_quality,
                    output_format="jpeg",
                )
                return Edit(_picture(answer), model, *self._usage(answer, model))

    @asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        tell = self._on_answer
        try:
            yield
        except (openai.InternalServerError, openai.APIConnectionError):
            if tell:
                await tell(False)
            raise
        except Exception:
            if tell:
                await tell(True)
            raise
        if tell:
            await tell(True)

    def _fall_back(self, error: openai.APIStatusError, model: str) -> bool:
        """Go on with the fallback model for good when the call's model is shut down; false when that cannot help."""
        fallback = self._settings.openai_image_fallback_model
        if error.code != "model_not_found" or model == fallback:
            return False
        if self.model != fallback:
            log.error("openai_model_fallback_used", model=model, fallback=fallback, detail=_describe(error))
            self.model = fallback
            image_api.FALLBACK.set(1)
        return True

    def _usage(self, answer: Any, model: str) -> tuple[int | None, int | None, Decimal | None]:
        usage = answer.usage
        if usage is None:
            return None, None, None
        return usage.input_tokens, usage.output_tokens, cost(usage, self._settings.price(model))


def cost(usage: Any, price: Price) -> Decimal:
    """USD of one call. Output without details is image output: OpenAI often leaves the details out."""
    text_in, image_in = usage.input_tokens_details.text_tokens, usage.input_tokens_details.image_tokens
    details = usage.output_tokens_details
    text_out = (details.text_tokens or 0) if details else 0
    image_out = usage.output_tokens - text_out
    total = (
        text_in * price.text_in + image_in * price.image_in + text_out * price.text_out + image_out * price.image_out
    )
    return Decimal(total / _MILLION).quantize(Decimal("0.000001"))


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Final answers as our errors; what may be retried, or be a missing model, passes through."""
    try:
        yield
    except (openai.InternalServerError, openai.APIConnectionError):
        raise
    except openai.APIStatusError as error:
        if error.code == "model_not_found":
            raise
        raise _final(error) from error
    except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
        raise EditFailed(f"OpenAI's answer cannot be read: {type(error).__name__}") from error


@contextmanager
def _counted(model: str) -> Iterator[None]:
    result = "ok"
    try:
        yield
    except BaseException as error:
        result = _result(error)
        raise
    finally:
        image_api.answered(model, result)


def _result(error: BaseException) -> str:
    """What came back, as the metrics call it."""
    if isinstance(error, openai.APIStatusError):
        by_status = "server_error" if error.status_code >= 500 else _RESULTS.get(error.status_code, "refused")
        return _RESULTS.get(error.code or "", by_status)
    if isinstance(error, openai.APIConnectionError):
        return "connection_error"
    return "abandoned" if isinstance(error, asyncio.CancelledError) else "unreadable"


def _final(error: openai.APIStatusError) -> Exception:
    if error.code == "insufficient_quota":
        return AccountRefused("quota_exhausted", _describe(error))
    if isinstance(error, openai.RateLimitError):
        return RateLimited(_describe(error), _retry_after(error))
    if error.code == "moderation_blocked":
        return ModerationBlocked(_describe(error))
    return EditFailed(_describe(error))


def _retry_after(error: openai.APIStatusError) -> float:
    try:
        return float(error.response.headers.get("retry-after", 0))
    except ValueError:
        return 0.0


def _describe(error: Exception) -> str:
    if isinstance(error, openai.APIStatusError):
        return f"OpenAI answered {error.status_code} {error.code or error.type or ''} ({error.request_id})"
    return f"OpenAI connection: {type(error).__name__}"


def _picture(answer: Any) -> bytes:
    data = getattr(answer, "data", None)
    if not data or not data[0].b64_json:
        raise EditFailed("OpenAI's answer has no picture")
    try:
        return base64.b64decode(data[0].b64_json, validate=True)
    except binascii.Error as error:
        raise EditFailed("OpenAI's picture is not base64") from error
