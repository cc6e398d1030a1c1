"""GET /models/{id}: the model lives, is gone, or is going to be shut down."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

import openai
from openai import AsyncOpenAI

from worker.generation.openai.answers import Answer, is_html
from worker.generation.openai.meaning import Meaning, meaning

_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Look:
    """The answer to GET /models/{id}; `lives` None: it says nothing of the model, but has `answer` or `problem`."""

    lives: bool | None
    shutdown: date | None = None
    answer: Answer | None = None
    problem: str = ""

    @property
    def days_left(self) -> int | None:
        """Days until the announced shutdown; None: nothing is announced."""
        return (self.shutdown - datetime.now(UTC).date()).days if self.shutdown else None

    @property
    def serves(self) -> bool:
        """Return True if the model can be relied on. On its last day OpenAI may list a model that has already ended."""
        return bool(self.lives) and (self.days_left is None or self.days_left > 0)

    @property
    def key_may_not_look(self) -> bool:
        """Return True for a restricted key: no later look says more."""
        return self.answer is not None and meaning(self.answer) is Meaning.UNAUTHORIZED


async def look(client: AsyncOpenAI, model: str) -> Look:
    """Ask OpenAI once; never raises."""
    try:
        answer = await client.models.with_raw_response.retrieve(model, timeout=_PATIENCE_SECONDS)
        return _read(answer.headers, answer.content)
    except openai.APIStatusError as error:
        refusal = Answer.of(error.response)
        gone = meaning(refusal) is Meaning.MODEL_GONE and refusal.says_model_is_gone
        return Look(False if gone else None, answer=refusal, problem=refusal.describe())
    except (openai.OpenAIError, ValueError, RecursionError) as error:
        return Look(None, problem=f"OpenAI connection: {type(error).__name__}")


def _read(headers: Mapping[str, str], body: bytes) -> Look:
    answer = None if is_html(headers, body) else json.loads(body)
    if not isinstance(answer, dict) or "id" not in answer:
        return Look(None, problem="OpenAI's answer describes no model")
    return Look(True, _day(answer.get("shutdown_date")))


def _day(value: object) -> date | None:
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC).date() if value else None
        return date.fromisoformat(str(value)[:10]) if value else None
    except (ValueError, OverflowError, OSError):
        return None
