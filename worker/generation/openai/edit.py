"""One edit: what is ordered, the picture that comes, and the answers that bring none but are no failure yet."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal

from worker.errors import EditFailed
from worker.generation.openai.model_watch import Verdict

#: Times a step by its name.
Timer = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Edit:
    """One answer of OpenAI: the picture's bytes as they came, and the usage block."""

    image: bytes
    model: str
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None


@dataclass(frozen=True)
class Order:
    images: list[bytes]
    prompt: str
    on_call: Callable[[], Awaitable[None]]
    step: Timer


class Passing(Exception):
    """OpenAI is unavailable for the moment; the text is for the log."""

    def __init__(self, detail: str, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class ModelGone(Exception):
    """The call's model is gone, or seems to be; the text is for the log."""

    def __init__(self, detail: str, verdict: Verdict) -> None:
        super().__init__(detail)
        self.verdict = verdict


class PictureUnreadable(EditFailed):
    """OpenAI answered with success, which costs money, and without a usable picture. `edit` has no picture."""

    def __init__(self, detail: str, edit: Edit) -> None:
        super().__init__(detail)
        self.edit = edit
