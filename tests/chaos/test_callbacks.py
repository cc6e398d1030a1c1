"""Callbacks over kills of the worker: a good partner hears of every end once by id, beside partners that fail."""

import random
import time
from collections import Counter, defaultdict

from tests.chaos.load import report
from tests.chaos.worker import FULL, Worker
from tests.integration.scrape import scrape
from tests.integration.worker_process import ENDED, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.partner import Partner
from tests.worker.webhooks.world import SECRET, endpoint

SESSIONS, KILLS = (500, 8) if FULL else (24, 1)
BAD = ("/dead", "/slow", "/status/500", "/status/410", "/redirect", "/hangup", "/garbage")
#: Each of these partners has as many sessions.
BAD_SESSIONS = 3


def test_every_event_reaches_a_good_partner_once_by_its_id_over_kills(sandbox: Sandbox) -> None:
    chance = random.Random(1)
    sandbox.openai.fault("moderation_blocked", contains="blocked")
    with Partner() as partner, Worker(sandbox, WORKER_CONCURRENCY="20", **partner.environment()) as worker:
        good, good_endpoint = endpoint(sandbox, partner.url("/good"), sandbox.producer.store(10_000))
        bad = [endpoint(sandbox, partner.url(path))[0] for path in BAD]
        began_at = time.monotonic()
        sessions = []
        for turn in range(KILLS + 1):
            for number in range(SESSIONS // (KILLS + 1) + 1):
                prompt = "blocked" if number % 10 == 0 else ""
                sessions.append(sandbox.producer.b2b(good, prompt=prompt).session_id)
            if turn == 0:
                for store in bad * BAD_SESSIONS:
                    sandbox.producer.b2b(store)
            wait_for(
                lambda: len(partner.at("/good")) > len(sessions) // 2, 60, lambda: f"{len(partner.at('/good'))} came"
            )
            if turn < KILLS:
                time.sleep(chance.uniform(0, 1))
                worker.kill()
                worker.start()
        _ended(sandbox)
        ended_seconds = time.monotonic() - began_at
        if not FULL:
            # A killed worker's attempts are made again after their lease of a minute, which is not waited for here.
            sandbox.database.execute("update store_webhook_deliveries set due_at = now() where lease is not null")
        waiting = "select count(*) from store_webhook_deliveries where endpoint_id = $1 and delivered_at is null"
        wait_for(
            lambda: sandbox.database.value(waiting, good_endpoint) == 0,
            120,
            lambda: f"{sandbox.database.value(waiting, good_endpoint)} wait",
        )
        seen = scrape(worker.url)
        assert seen.value("wearon_webhook_attempts_total", result="delivered") > 0
    _proven(sandbox, partner, sessions)
    came, ids = len(partner.at("/good")), len({each.headers["webhook-id"] for each in partner.at("/good")})
    report(
        f"callbacks of {len(sessions)} sessions over {KILLS} kills",
        {
            "events": ids,
            "came": came,
            "again after a kill": came - ids,
            "to bad partners": len(partner.received) - came,
            "sessions ended in s": round(ended_seconds, 1),
            "all delivered in s": round(time.monotonic() - began_at, 1),
        },
    )


def _ended(sandbox: Sandbox) -> None:
    open_ones = "select count(*) from store_generation_sessions where status <> all($1)"
    wait_for(
        lambda: sandbox.database.value(open_ones, list(ENDED)) == 0,
        180,
        lambda: f"{sandbox.database.value(open_ones, list(ENDED))} are open",
    )


def _proven(sandbox: Sandbox, partner: Partner, sessions: list[str]) -> None:
    """Hold what the good partner heard against the sessions' rows."""
    ids: dict[str, set[str]] = defaultdict(set)
    bodies: dict[str, set[bytes]] = defaultdict(set)
    order: dict[str, list[str]] = defaultdict(list)
    for each in partner.at("/good"):
        content = each.verified_later(SECRET)
        session = content["data"]["session_id"]
        ids[session].add(each.headers["webhook-id"])
        bodies[each.headers["webhook-id"]].add(each.body)
        if content["type"] not in order[session]:
            order[session].append(content["type"])
    rows = {str(row["id"]): row for row in sandbox.database.fetch("select * from store_generation_sessions")}
    for session in sessions:
        completed = rows[session]["status"] == "completed"
        assert len(ids[session]) == (1 if completed else 2), order[session]
        assert order[session][0] == ("generation_completed" if completed else order[session][0])
        assert completed or order[session][1] == "credit_refunded"
    assert ids.keys() == set(sessions)
    assert all(len(each) == 1 for each in bodies.values())
    told = Counter(
        row["event_type"]
        for row in sandbox.database.fetch("select event_type from store_analytics_events")
        if row["event_type"] != "credit_refunded"
    )
    assert sum(told.values()) == len(rows), told
