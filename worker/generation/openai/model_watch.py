"""The choice between the model and its fallback, by what OpenAI says of both."""

import asyncio
import random
import time
from enum import Enum

from openai import AsyncOpenAI

from worker.generation.openai import metrics as openai_metrics
from worker.generation.openai.answers import Answer
from worker.generation.openai.model_look import Look, look
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)

#: An answer counts for so long. After an answer that says nothing OpenAI is asked again soon, but not by every
#: generation.
_GONE_SECONDS, _ALIVE_SECONDS, _UNKNOWN_SECONDS = 600.0, 60.0, 30.0
#: ... when OpenAI says in plain words that the model is gone: it may have gone since.
_CONTRADICTED_SECONDS = 5.0
_DAY_SECONDS = 86_400.0
_AGAIN_SECONDS = 3_600.0


class Verdict(Enum):
    """The judgement after an answer that speaks of the model."""

    ALIVE = "alive"
    GONE = "gone"
    #: The confirmation cannot be had: the other model is tried for this generation, and nothing is decided.
    UNKNOWN = "unknown"


class ModelWatch:
    """Confirms that a model is gone, once for all generations of the process, and knows which one is in use."""

    def __init__(self, client: AsyncOpenAI, settings: Settings) -> None:
        self._client = client
        self.first, self.fallback = settings.openai_image_model, settings.openai_image_fallback_model
        self.in_use = self.first
        self._looks: dict[str, tuple[float, Look]] = {}
        self._door = asyncio.Lock()

    async def judge(self, model: str, answer: Answer) -> Verdict:
        """Confirm what `answer` says of `model`.

        A key that may not read models confirms nothing, ever: then OpenAI's plain words count. In an outage nothing
        is decided for good; the generation goes on with the fallback, because a refused call costs nothing.
        """
        async with self._door:
            seen = self._remembered(model, answer) or await self._look(model)
        if seen.lives is not None:
            return Verdict.ALIVE if seen.serves else Verdict.GONE
        return Verdict.GONE if seen.key_may_not_look and answer.says_model_is_gone else Verdict.UNKNOWN

    def fall_back(self, detail: str) -> None:
        """Go on with the fallback for good; said once."""
        if self.in_use != self.fallback:
            log.error("openai_model_fallback_used", model=self.first, fallback=self.fallback, detail=detail)
            self.in_use = self.fallback
            openai_metrics.FALLBACK.set(1)

    async def watch_forever(self) -> None:
        """Look at both models at the start and daily, or sooner when OpenAI did not say."""
        while True:
            known = await self.look_at_both()
            # Not all instances at once.
            await asyncio.sleep((_DAY_SECONDS if known else _AGAIN_SECONDS) * random.uniform(0.9, 1.1))  # noqa: S311

    async def look_at_both(self) -> bool:
        """Publish the announced shutdowns and end a fallback that is over; False: OpenAI did not say."""
        looks = {model: await look(self._client, model) for model in {self.first, self.fallback}}
        for model, seen in looks.items():
            if seen.lives:
                openai_metrics.shutdown(model, seen.shutdown)
        if self.in_use != self.first and looks[self.first].serves:
            log.warning("openai_model_fallback_ended", model=self.first)
            self.in_use = self.first
            openai_metrics.FALLBACK.set(0)
        return all(seen.lives is not None for seen in looks.values())

    def _remembered(self, model: str, answer: Answer) -> Look | None:
        if model not in self._looks:
            return None
        at, seen = self._looks[model]
        seconds = {False: _GONE_SECONDS, True: _ALIVE_SECONDS, None: _UNKNOWN_SECONDS}[seen.lives]
        if seen.lives and answer.says_model_is_gone:
            seconds = _CONTRADICTED_SECONDS
        return seen if time.monotonic() < at + seconds else None

    async def _look(self, model: str) -> Look:
        seen = await look(self._client, model)
        self._looks[model] = (time.monotonic(), seen)
        log.info("openai_model_looked_up", model=model, lives=seen.lives, problem=seen.problem)
        return seen
