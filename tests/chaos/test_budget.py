"""A budget under 150 calls in flight and a power failure: what OpenAI was asked for stays within it."""

import json
from collections import Counter
from decimal import Decimal

import pytest

from tests.chaos.books import balance
from tests.chaos.load import Load, ended, report
from tests.chaos.worker import Worker
from tests.integration.worker_process import wait_for
from tests.sandbox import Sandbox

BUDGET, SESSIONS, IN_FLIGHT = Decimal(8), 200, 150


@pytest.mark.timeout(400)
@pytest.mark.chaos_full
def test_150_calls_in_flight_and_a_kill_pass_no_budget(sandbox: Sandbox) -> None:
    sandbox.openai.set(latency={"median": 12, "sigma": 0.3})
    load = Load(sandbox)
    load.many(5)  # one call at a time learns the cost
    settings = {
        "BUDGETS": json.dumps({"all": {"day": float(BUDGET)}}),
        "WORKER_CONCURRENCY": str(IN_FLIGHT),
        "OPENAI_REQUESTS_PER_MINUTE": "1000000",
        "GENERATION_TIMEOUT_SECONDS": "40",
    }
    with Worker(sandbox, **settings) as worker:
        ended(sandbox, load.all, 60)
        load.many(SESSIONS)
        wait_for(lambda: sandbox.openai.summary()["total"] >= 90, 100, "too few calls")
        worker.kill()
        worker.start()
        ended(sandbox, load.all, 300)
        books = balance(sandbox, load.all)
    # The stand-in was asked for this; the calls that the kill cut off count as paid.
    outcomes = Counter(call.outcome for call in sandbox.calls())
    cost = Decimal(str(sandbox.database.value("select max(cost_usd) from wearon.session_events")))
    spent = cost * outcomes.total()
    figures = {
        "budget": BUDGET,
        "spent": spent,
        "overshoot %": round(100 * (spent / BUDGET - 1), 2),
        **outcomes,
        "peak": sandbox.openai.summary()["peak_in_flight"],
        **books.row(),
    }
    report(f"A budget with {IN_FLIGHT} calls in flight and a kill", figures)
    assert outcomes["client_gone"] > 20
    # Calls that were reserved and not yet made when the worker was killed count as spent, too.
    assert Decimal("0.8") * BUDGET < spent <= Decimal("1.02") * BUDGET
