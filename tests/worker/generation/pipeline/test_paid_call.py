"""The paid call up to its end without a picture; whole generations are in tests/integration."""

import asyncio
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from worker.errors import Cancelled, EditFailed, ServiceOutage
from worker.generation.channel import Channel
from worker.generation.message import GenerationMessage
from worker.generation.pipeline.paid_call import PaidCall
from worker.generation.sessions.marks import Stage
from worker.generation.spend.limits import Limits, periods
from worker.generation.spend.spend import Spend
from worker.generation.spend.view import SpendView
from worker.settings import Settings
from worker.settings.values import Budget

MODEL = "gpt-image-2.6-sunburst"


async def nothing(*_: object, **__: object) -> bool:
    return True


class Editor:
    """Refuses each picture, or never answers."""

    models = SimpleNamespace(in_use=MODEL)

    def __init__(self, *, answers: bool = True) -> None:
        self._answers = answers

    async def edit(self, _: object, __: str, on_call: Any, *___: object, **____: object) -> None:
        await on_call()
        if not self._answers:
            await asyncio.sleep(60)
        raise EditFailed("refused")


def paid_call(**parts: Any) -> PaidCall:
    named = ("settings", "sessions", "probes", "editor", "starts", "expiry", "breaker", "prompts", "spend")
    fakes: dict[str, Any] = dict.fromkeys(named)
    fakes["starts"] = SimpleNamespace(note_call=nothing, note_unpaid=nothing)
    fakes["expiry"], fakes["prompts"] = SimpleNamespace(check=nothing), SimpleNamespace(choose=nothing)
    fakes["spend"] = SimpleNamespace(reserve=nothing, release=nothing)
    fakes["breaker"] = SimpleNamespace(answered=nothing)
    return PaidCall(**{**fakes, **parts})


def run_of(probe: str = "") -> Any:
    fields: dict[str, Any] = {"channel": Channel.B2C, "session_id": uuid4(), "user_id": uuid4(), "image_urls": ["", ""]}
    message = GenerationMessage.model_construct(store_id=None, **fields)
    attempt = SimpleNamespace(stop=None, waiting=False, available=None)
    return SimpleNamespace(
        message=message, stage=Stage.STARTED, facts={}, attempt=attempt, probe=probe, checked=True, step=None
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


async def test_a_probe_that_is_cut_off_counts_against_the_budget(redis: Redis, settings: Settings) -> None:
    """OpenAI may have made its picture."""
    quick = settings.model_copy(update={"budgets": {"all": Budget(day=Decimal(10))}, "probe_timeout_seconds": 0.1})
    call = paid_call(settings=quick, editor=Editor(answers=False), spend=Spend(redis, quick))
    run = run_of(probe="openai_unavailable")
    with pytest.raises(ServiceOutage):
        await call.edit(run, [])
    view = SpendView(redis, Limits({}))
    assert (await view.spent(periods()[0])).usd["all"] > 0
    assert await view.reserved() == 0
