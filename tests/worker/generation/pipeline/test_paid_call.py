"""The paid call up to its end without a picture; whole generations are in tests/integration."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from worker.errors import Cancelled, EditFailed
from worker.generation.channel import Channel
from worker.generation.message import GenerationMessage
from worker.generation.pipeline.paid_call import PaidCall
from worker.generation.sessions.marks import Stage


async def nothing(*_: object, **__: object) -> bool:
    return True


class Editor:
    """Refuses each picture."""

    models = SimpleNamespace(in_use="gpt-image-2.6-sunburst")

    async def edit(self, _: object, __: str, on_call: Any, *___: object, **____: object) -> None:
        await on_call()
        raise EditFailed("refused")


def paid_call(**parts: Any) -> PaidCall:
    named = ("settings", "sessions", "probes", "editor", "starts", "expiry", "breaker", "prompts", "spend")
    fakes: dict[str, Any] = dict.fromkeys(named)
    fakes["starts"] = SimpleNamespace(note_call=nothing, note_unpaid=nothing)
    fakes["expiry"], fakes["prompts"] = SimpleNamespace(check=nothing), SimpleNamespace(choose=nothing)
    fakes["spend"] = SimpleNamespace(reserve=nothing, release=nothing)
    return PaidCall(**{**fakes, **parts})


def run_of() -> Any:
    fields: dict[str, Any] = {"channel": Channel.B2C, "session_id": uuid4(), "user_id": uuid4(), "image_urls": ["", ""]}
    message = GenerationMessage.model_construct(store_id=None, **fields)
    attempt = SimpleNamespace(stop=None, waiting=False, available=None)
    return SimpleNamespace(
        message=message, stage=Stage.STARTED, facts={}, attempt=attempt, probe="", checked=True, step=None
    )


@pytest.mark.parametrize(("error", "asked"), [(Cancelled("cancelled meanwhile"), False), (None, True)])
async def test_a_session_that_ends_before_its_request_counts_for_no_prompt(
    error: Exception | None, asked: bool
) -> None:
    async def check(_: object) -> None:
        if error:
            raise error

    run = run_of()
    with pytest.raises(Cancelled if error else EditFailed):
        await paid_call(editor=Editor(), expiry=SimpleNamespace(check=check)).edit(run, [])
    assert ("model" in run.facts) is asked  # the results of versions count sessions that name a model
