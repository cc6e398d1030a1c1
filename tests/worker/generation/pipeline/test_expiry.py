"""Messages that are too old, by the clock that stands still in pauses and by the one that does not."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from worker.errors import Cancelled, MessageExpired
from worker.generation.bulk.manifest import Manifest, Row
from worker.generation.bulk.record import Record
from worker.generation.channel import Channel
from worker.generation.message import GenerationMessage
from worker.generation.pauses.pauses import Times
from worker.generation.pipeline.expiry import Expiry
from worker.settings import Settings


class Pauses:
    """Pauses so many seconds ago."""

    def __init__(self, *ago: tuple[float, float]) -> None:
        self._ago = ago
        self.asked = 0

    async def times(self) -> Times:
        self.asked += 1
        now = datetime.now(UTC).timestamp()
        return Times(now, [(now - begin, now - end) for begin, end in self._ago])


def message(created_at: datetime) -> GenerationMessage:
    ids = {name: str(uuid4()) for name in ("task_id", "session_id", "user_id")}
    fields = {"channel": "b2c", "image_urls": ["https://a/b"], "request_id": "r", "version": 1}
    return GenerationMessage.model_validate({**ids, **fields, "created_at": created_at.isoformat()})


@pytest.mark.parametrize(("hours", "gone"), [(23.9, False), (24.1, True)])
async def test_bulk_waits_for_a_day_with_pauses_or_without(settings: Settings, hours: float, gone: bool) -> None:
    made = message(datetime.now(UTC) - timedelta(hours=hours))
    bulk = made.model_copy(update={"priority": "bulk", "channel": Channel.B2B})
    pauses: Any = Pauses((3600, 0))
    with pytest.raises(MessageExpired) if gone else nullcontext():
        await Expiry(pauses, settings).check(bulk)
    with pytest.raises(MessageExpired):  # the app ends every user's session after minutes
        await Expiry(pauses, settings).check(bulk.model_copy(update={"channel": Channel.B2C}))


async def expires(pauses: Any, settings: Settings, age: float) -> bool:
    try:
        await Expiry(pauses, settings).check(message(datetime.now(UTC) - timedelta(seconds=age)))
    except MessageExpired:
        return True
    return False


@pytest.mark.parametrize(
    ("age", "ago", "gone"),
    [
        (590, (), False),
        (610, (), True),
        (900, ((800, 400),), False),
        (1100, ((800, 400),), True),
        (900, ((5000, 4000),), True),
        (3500, ((3600, 0),), False),
        (3700, ((4000, 0),), True),
        (1050, ((1000, 700), (900, 600), (650, 500)), False),
    ],
)
async def test_a_message_expires_by_the_time_outside_pauses_and_by_an_absolute_limit(
    settings: Settings, age: float, ago: tuple[tuple[float, float], ...], gone: bool
) -> None:
    assert await expires(Pauses(*ago), settings, age) is gone


async def test_a_fresh_message_asks_redis_for_nothing(settings: Settings) -> None:
    pauses = Pauses()
    assert not await expires(pauses, settings, 599)
    assert pauses.asked == 0


async def test_0_means_that_messages_do_not_expire(settings: Settings) -> None:
    endless = settings.model_copy(update={"message_ttl_seconds": 0})
    assert not await expires(Pauses(), endless, 10 * 365 * 86400)


async def test_an_absolute_limit_below_the_time_to_live_does_not_shorten_it(settings: Settings) -> None:
    odd = settings.model_copy(update={"message_ttl_max_seconds": 10})
    assert not await expires(Pauses((500, 100)), odd, 599)
    assert await expires(Pauses((500, 100)), odd, 601)


@pytest.mark.parametrize(
    ("moment", "gone"),
    [
        (lambda: datetime.now(UTC) + timedelta(days=400), False),
        (lambda: datetime.now(timezone(timedelta(hours=14))), False),
        (lambda: datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), True),
        (lambda: datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-12))), False),
    ],
)
async def test_odd_clocks_neither_crash_nor_expire_what_is_of_the_future(
    settings: Settings, moment: Callable[[], datetime], gone: bool
) -> None:
    pauses: Any = Pauses()
    with pytest.raises(MessageExpired) if gone else nullcontext():
        await Expiry(pauses, settings).check(message(moment()))


async def test_bulk_of_a_cancelled_manifest_is_not_made_any_more(redis: Redis, settings: Settings, full: Any) -> None:
    """A generation that was preempted after the command had looked waits in its lane again."""
    full()
    record, row = Record(redis), Row(1, 2, ("https://a.example/1.jpg", "https://a.example/2.jpg"), "", "")
    await record.cancel("one_1")
    pauses: Any = Pauses()
    expiry, store = Expiry(pauses, settings, record.is_cancelled), uuid4()
    cancelled, other = (Manifest(store, name, "", [row]).message(row) for name in ("one_1", "one"))
    with pytest.raises(Cancelled):
        await expiry.check(cancelled)
    await expiry.check(other)
    # A store's own request id is no row of a manifest.
    await expiry.check(cancelled.model_copy(update={"session_id": uuid4()}))
