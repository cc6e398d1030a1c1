"""The deliverer between a real outbox and partners of every kind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from structlog.testing import capture_logs

from tests.sandbox import Sandbox
from tests.sandbox.partner import Partner
from tests.worker.webhooks.world import SECRET, complete, deliveries, endpoint, fail
from worker import clients
from worker.settings import Settings
from worker.webhooks import deliverer as module
from worker.webhooks import schedule
from worker.webhooks.deliverer import Deliverer
from worker.webhooks.outbox import Outbox
from worker.webhooks.sender import Sender


@pytest.fixture
async def make(
    sandbox: Sandbox, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[], Deliverer]]:
    """A function that makes deliverers; retries come after a moment."""
    monkeypatch.setattr(schedule, "WAITS_SECONDS", (0.05,) * 7)
    for name, value in sandbox.env().items():
        monkeypatch.setenv(name, value)
    async with httpx.AsyncClient(timeout=5) as http:
        outbox = clients.database_client(Settings(), http)
        yield lambda: Deliverer(Outbox(outbox), sender, concurrency=16, per_endpoint=2, picture_seconds=3600)


@asynccontextmanager
async def running(*deliverers: Deliverer) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run_forever()) for each in deliverers]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("minutes", "address"), [(58, "https://x/picture.jpg?token=t"), (62, None)])
async def test_a_late_callback_has_no_address_that_works_no_longer(
    sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer], minutes: int, address: str | None
) -> None:
    """The picture may be kept for longer than its address works, or for ever."""
    store, _ = endpoint(sandbox, partner.url("/good"))
    complete(sandbox, store)
    sandbox.database.execute(
        "update store_webhook_deliveries set occurred_at = now() - $1 * interval '1 minute'", minutes
    )
    async with running(make()):
        await until(lambda: bool(partner.received))
    assert partner.received[0].verified(SECRET)["data"]["image_url"] == address


async def test_a_settled_session_reaches_its_stores_endpoint_alone(
    sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer]
) -> None:
    store, _ = endpoint(sandbox, partner.url("/good"))
    endpoint(sandbox, partner.url("/other"))
    session = complete(sandbox, store, {"request_id": "req_1"})
    async with running(make()):
        await until(lambda: bool(partner.received))
    (received,) = partner.received
    content = received.verified(SECRET)
    assert (received.path, content["type"]) == ("/good", "generation_completed")
    assert content["data"] == {
        "session_id": session.session_id,
        "request_id": "req_1",
        "status": "completed",
        "reason": None,
        "error_message": None,
        "processing_time_ms": 3000,
        "image_url": "https://x/picture.jpg?token=t",
    }


async def test_a_failure_comes_before_its_refund(
    sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer]
) -> None:
    store, _ = endpoint(sandbox, partner.url("/status/503"))
    fail(sandbox, store)
    deliverer = make()
    async with running(deliverer):
        await until(lambda: len(partner.received) >= 2)
        assert {each.content["type"] for each in partner.received} == {"generation_failed"}
        partner.answers["/status/503"] = 200
        await until(lambda: partner.received[-1].content["type"] == "credit_refunded")
    ids = [each.headers["webhook-id"] for each in partner.received]
    assert len(set(ids)) == 2
    assert len(set(ids[:-1])) == 1, "the id of a delivery changed between its attempts"


async def test_a_bad_partner_delays_no_other(sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer]) -> None:
    bad = [endpoint(sandbox, partner.url(path))[0] for path in ("/dead", "/slow", "/status/500", "/hangup")]
    for store in bad:
        for _ in range(6):
            complete(sandbox, store)
    good, good_endpoint = endpoint(sandbox, partner.url("/good"))
    sessions = {complete(sandbox, good).session_id for _ in range(6)}
    async with running(make(), make()):
        await until(lambda: len(partner.at("/good")) == len(sessions))
        await until(lambda: all(each["delivered_at"] for each in deliveries(sandbox, good_endpoint)))
    assert {each.content["data"]["session_id"] for each in partner.at("/good")} == sessions
    assert max(partner.most[path] for path in ("/dead", "/slow")) <= 2, "more at once than an endpoint may have"


async def test_an_endpoint_that_answers_410_hears_nothing_more(
    sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer]
) -> None:
    store, gone = endpoint(sandbox, partner.url("/status/410"))
    for _ in range(3):
        complete(sandbox, store)
    async with running(make()):
        await until(lambda: all(each["given_up_at"] for each in deliveries(sandbox, gone)))
    assert len(partner.received) <= 2  # as many as were under way
    complete(sandbox, store)
    assert len(deliveries(sandbox, gone)) == 3
    row = sandbox.database.row("select * from store_webhook_endpoints where id = $1", gone)
    assert row is not None
    assert row["disabled_reason"] == "gone"


async def test_a_delivery_is_given_up_after_eight_attempts(
    sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer]
) -> None:
    store, bad = endpoint(sandbox, partner.url("/status/500"))
    complete(sandbox, store)
    deliverer = make()

    def given_up() -> bool:
        # An endpoint that fails is left alone for a while, which is not waited for here.
        sandbox.database.execute("update store_webhook_endpoints set held_until = null")
        deliverer.wake()
        return all(each["given_up_at"] for each in deliveries(sandbox, bad))

    async with running(deliverer):
        await until(given_up)
    (row,) = deliveries(sandbox, bad)
    assert (row["attempts"], row["last_status"], len(partner.received)) == (8, 500, 8)


async def test_a_partner_that_asks_for_a_longer_wait_gets_it(
    sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer]
) -> None:
    store, busy = endpoint(sandbox, partner.url("/busy"))
    complete(sandbox, store)
    async with running(make()):
        await until(lambda: deliveries(sandbox, busy)[0]["last_status"] == 503)
    wait = sandbox.database.value("select extract(epoch from due_at - now())::float from store_webhook_deliveries")
    assert 850 < wait <= 900


async def test_a_drain_waits_for_what_is_under_way_and_claims_nothing_more(
    sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer]
) -> None:
    store, slow = endpoint(sandbox, partner.url("/slow"))
    complete(sandbox, store)
    deliverer = make()
    async with running(deliverer):
        await until(lambda: bool(partner.received))
        await deliverer.drain(20)
        complete(sandbox, store)
        deliverer.wake()
        await asyncio.sleep(0.5)
    done, left = deliveries(sandbox, slow)
    assert (done["delivered_at"] is not None, left["attempts"], len(partner.received)) == (True, 0, 1)


async def test_a_drain_waits_for_a_claim_under_way_and_its_attempts(
    sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer]
) -> None:
    """Else what it claims is cut off, and comes a minute later or twice: no other worker may claim it before."""
    store, good = endpoint(sandbox, partner.url("/good"))
    complete(sandbox, store)
    claim = sandbox.gateway.fault("slow", on="rpc/wearon_webhook_claim", delay=0.5)
    deliverer = make()
    async with running(deliverer):
        await until(lambda: any(each["id"] == claim and each["hits"] for each in sandbox.gateway.faults()))
        await deliverer.drain(20)
    (done,) = deliveries(sandbox, good)
    assert (done["delivered_at"] is not None, done["attempts"], len(partner.received)) == (True, 1, 1)


async def test_an_attempt_that_was_never_reported_is_made_again_with_its_id(
    sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer]
) -> None:
    store, good = endpoint(sandbox, partner.url("/good"))
    complete(sandbox, store)
    sandbox.gateway.fault("drop_before", on="rpc/wearon_webhook_report")
    async with running(make()):
        await until(lambda: len(partner.received) == 1)
    sandbox.gateway.clear()
    sandbox.database.execute("update store_webhook_deliveries set due_at = now() where due_at is not null")
    async with running(make()):
        await until(lambda: all(each["delivered_at"] for each in deliveries(sandbox, good)))
    assert len({each.headers["webhook-id"] for each in partner.received}) == 1


async def test_the_database_is_asked_seldom_while_there_is_nothing_to_do(
    sandbox: Sandbox, make: Callable[[], Deliverer]
) -> None:
    deliverer = make()
    assert await deliverer.turn() == module.NO_ENDPOINTS_SECONDS
    endpoint(sandbox, "https://partner.example/")
    assert await deliverer.turn() == module.POLL_SECONDS


async def test_old_notes_of_events_go_soon_even_where_nothing_is_delivered(
    sandbox: Sandbox, make: Callable[[], Deliverer], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.database.execute(
        "insert into wearon.session_events (session_id, channel, kind, told_at) "
        "select gen_random_uuid(), 'b2c', 'ended', now() - interval '31 days' from generate_series(1, 1500)"
    )
    monkeypatch.setattr(module, "_STATE_SECONDS", 0.0)
    deliverer = make()
    deliverer._concurrency = 0
    for _ in range(2):
        await deliverer.turn()
    assert sandbox.database.value("select count(*) from wearon.session_events") == 0


async def test_a_database_that_is_away_ends_nothing(
    sandbox: Sandbox, partner: Partner, make: Callable[[], Deliverer]
) -> None:
    store, _ = endpoint(sandbox, partner.url("/good"))
    sandbox.gateway.fault("unavailable", on="rpc/wearon_webhook_claim")
    complete(sandbox, store)
    deliverer = make()
    with capture_logs() as logs:
        async with running(deliverer):
            await until(lambda: "webhooks_postponed" in {line["event"] for line in logs})
            sandbox.gateway.clear()
            deliverer.wake()
            await until(lambda: bool(partner.received))


async def test_thousands_of_callbacks_that_find_no_turn_are_given_up_without_waiting_for_hours(
    sandbox: Sandbox, make: Callable[[], Deliverer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STATE_SECONDS", 0.0)
    endpoint(sandbox, "https://gone.example/")
    sandbox.database.execute("update store_webhook_endpoints set failures = 9, held_until = now() + interval '1 hour'")
    sandbox.database.execute(
        "insert into store_webhook_deliveries (event_id, endpoint_id, store_id, session_id, type, data, queued_at) "
        "select gen_random_uuid(), e.id, e.store_id, gen_random_uuid(), 'generation_completed', '{}', now() - interval "
        "'4 days' from store_webhook_endpoints e, generate_series(1, 1001)"
    )
    deliverer = make()
    for _ in range(2):
        await deliverer.turn()
    assert sandbox.database.value("select count(*) from store_webhook_deliveries where due_at is not null") == 0
