"""Several workers on one Redis: they leave each other alone, share one limit, and settle for each other."""

import time
from collections import Counter
from signal import SIGTERM

import pytest

from tests.chaos.books import balance
from tests.chaos.load import Load, ended, reached, report, statuses
from tests.chaos.worker import LEASE_SECONDS, Worker, counted
from tests.integration.worker_process import wait_for
from tests.sandbox import Sandbox


def test_a_second_worker_touches_nothing_of_the_first_and_settles_for_it_when_it_is_killed(
    sandbox: Sandbox, load: Load
) -> None:
    sandbox.openai.set(latency=3 * LEASE_SECONDS)
    firsts = load.many(8)
    with Worker(sandbox) as first:
        reached(sandbox, firsts, "processing", 8)
        with Worker(sandbox) as second:
            ended(sandbox, firsts, 30)
            assert statuses(sandbox, firsts) == {"completed": 8}
            wait_for(lambda: counted(first) == Counter(completed=8), 5, lambda: str(counted(first)))
            sandbox.openai.set(latency=2 * LEASE_SECONDS)
            load.many(16)
            # Only calls in flight are lost with their worker.
            wait_for(lambda: sandbox.openai.summary()["in_flight"] == 16, 20, "OpenAI was not called")
            first.kill()
            killed = time.monotonic()
            ended(sandbox, load.all, 30)
            seconds = time.monotonic() - killed
            # Each once, by either worker.
            wait_for(lambda: counted(second) == Counter(completed=8, failed=8), 5, lambda: str(counted(second)))
    books = balance(sandbox, load.all)
    assert (books.completed, books.failed) == (16, 8)
    # The lease has to run out, then the sweep comes by: 30 + 10 s with the defaults, a tenth of that here.
    assert seconds < 3 * LEASE_SECONDS
    report("One of two workers killed", {**books.row(), "seconds until settled": round(seconds, 1)})


@pytest.mark.chaos_full
def test_calls_beyond_the_limit_wait_and_go_back_when_their_worker_stops(sandbox: Sandbox, load: Load) -> None:
    limit = 12
    settings = {"WORKER_CONCURRENCY": "10", "OPENAI_REQUESTS_PER_MINUTE": str(limit)}
    with Worker(sandbox, **settings) as first, Worker(sandbox, **settings) as second:
        load.many(20)
        reached(sandbox, load.all, "processing", 20)
        wait_for(lambda: statuses(sandbox, load.all)["completed"] == limit, 10, "the limit was not used")
        time.sleep(2 * LEASE_SECONDS)  # a waiting generation keeps its lease
        assert statuses(sandbox, load.all) == {"completed": limit, "processing": 20 - limit}
        assert sandbox.openai.summary()["total"] == limit
        first.signal(SIGTERM)
        wait_for(lambda: first.logs("drain_begun"), 3, "not draining")
        first.signal(SIGTERM)
        assert first.wait() == 0
        sandbox.redis.delete("wearon:limiter:openai")  # a minute later
        ended(sandbox, load.all, 20)
        assert second.logs("generation_completed")
    assert balance(sandbox, load.all).completed == 20


@pytest.mark.chaos_full
@pytest.mark.timeout(400)
def test_a_burst_stays_under_the_limit_of_the_account_and_uses_it(sandbox: Sandbox, load: Load) -> None:
    limit = 60
    settings = {"WORKER_CONCURRENCY": "100", "OPENAI_REQUESTS_PER_MINUTE": str(limit)}
    sandbox.openai.set(latency=1)
    sandbox.openai.fault("server_error", times=20)  # retries count, too
    with Worker(sandbox, **settings), Worker(sandbox, **settings):
        load.many(130)
        ended(sandbox, load.all, 300)
    summary = sandbox.openai.summary()
    report("A burst of 150 calls on two workers", {"limit": limit, **summary})
    assert summary["total"] == 150
    assert 0.95 * limit <= summary["max_per_minute"] <= limit
    assert balance(sandbox, load.all, calls_each=4).failed == 0
