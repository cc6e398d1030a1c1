"""Redis, Supabase or OpenAI away for seconds while generations run: everything goes on by itself and nothing is off."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.books import Books, balance
from tests.chaos.load import SETTLEMENTS, Load, TryOn, ended, reached, report, struck
from tests.chaos.worker import FULL, LEASE_SECONDS, Worker, counted
from tests.integration.worker_process import wait_for
from tests.sandbox import Sandbox

SESSIONS = 20


@pytest.fixture(scope="module")
def worker(world: Sandbox) -> Iterator[Worker]:
    """One worker for all outages: each is survived without a restart."""
    world.reset()
    with Worker(world, OPENAI_MAX_RETRIES="3") as process:
        yield process


@pytest.fixture
def sandbox(world: Sandbox, worker: Worker) -> Iterator[Sandbox]:
    """The world around the running worker; it may be emptied because every session of the test before has ended."""
    wait_for(lambda: worker.health()["parts"]["celery"]["active"] == 0, 20, "the test before left generations")
    world.reset()
    world.openai.set(compose=False, latency={"median": 0.7, "sigma": 0.3})
    yield world
    world.gateway.clear()
    world.openai.clear()
    world.valkey.resume()
    world.valkey.start()


def stop_redis(sandbox: Sandbox) -> None:
    sandbox.valkey.stop()
    time.sleep(5)
    sandbox.valkey.start()


def kill_redis(sandbox: Sandbox) -> None:
    sandbox.valkey.kill()
    sandbox.valkey.start()


def pause_redis(seconds: float) -> Callable[[Sandbox], None]:
    def pause(sandbox: Sandbox) -> None:
        sandbox.valkey.pause()
        time.sleep(seconds)
        sandbox.valkey.resume()

    return pause


def gateway(seconds: float, *operations: str) -> Callable[[Sandbox], None]:
    def away(sandbox: Sandbox) -> None:
        for operation in operations:
            sandbox.gateway.fault("unavailable", on=operation, seconds=seconds)
        time.sleep(seconds)

    return away


def openai_drops(kind: str) -> Callable[[Sandbox], None]:
    def drop(sandbox: Sandbox) -> None:
        struck(sandbox.openai, sandbox.openai.fault(kind, times=6), times=6)

    return drop


def answers_lost(sandbox: Sandbox) -> None:
    for operation in ("start", "complete"):
        sandbox.gateway.fault("drop_after", on=f"rpc/{operation}_generation", times=6)
        sandbox.gateway.fault("drop_before", on=f"rpc/{operation}_generation", times=6)
    sandbox.gateway.fault("drop_after", on="storage/*", times=6)


#: What happens, and how many calls of OpenAI a session may take then.
OUTAGES: dict[str, tuple[Callable[[Sandbox], None], int]] = {
    "Redis stopped for 5 s": (stop_redis, 1),
    "Redis killed and started": (kill_redis, 1),
    # Leases run out in it, and the supervisor's heartbeat, which is younger, does not.
    "Redis frozen for 0.85 of a lease": (pause_redis(0.85 * LEASE_SECONDS), 1),
    "Supabase 503 for 8 s": (gateway(8, "rpc/*", "table/*", "storage/*"), 1),
    "answers of Supabase lost": (answers_lost, 1),
    "OpenAI drops connections": (openai_drops("drop"), 4),
}
MORE_OUTAGES = {
    "Redis frozen for 4 s": (pause_redis(4), 1),
    "Storage 503 for 3 s": (gateway(3, "storage/*"), 1),
    "Redis frozen for 15 s": (pause_redis(15), 1),
    "Supabase 503 for 20 s": (gateway(20, "rpc/*", "table/*", "storage/*"), 1),
    "OpenAI breaks off answers": (openai_drops("drop_midway"), 4),
}


@pytest.mark.parametrize("outage", [*OUTAGES, *(MORE_OUTAGES if FULL else ())])
def test_an_outage_under_load_fails_no_session(sandbox: Sandbox, worker: Worker, outage: str) -> None:
    happen, calls_each = {**OUTAGES, **MORE_OUTAGES}[outage]
    load, before = Load(sandbox), counted(worker)
    load.many(SESSIONS)
    reached(sandbox, load.all, "completed", 4)
    happen(sandbox)
    begun = time.monotonic()
    load.many(2)
    ended(sandbox, load.all, 60)
    books = close(sandbox, load.all, outage, begun, calls_each=calls_each)
    assert books.failed == 0
    counts(worker, before, "completed", SESSIONS + 2, lost=6 * (happen is answers_lost))
    # The parts go on, and are seen to: else the container would be ended a minute later.
    wait_for(lambda: _silence(worker) < 3, 10, lambda: f"Celery's loop has not been seen for {_silence(worker)} s")


def _silence(worker: Worker) -> float:
    return float(worker.health()["parts"]["celery"]["loop_silent_seconds"])


def test_refunds_wait_for_a_database_that_is_away_exactly_then(sandbox: Sandbox, worker: Worker, load: Load) -> None:
    before = counted(worker)
    sandbox.openai.fault("moderation_blocked")
    away = sandbox.gateway.fault("unavailable", on="rpc/fail_generation")
    load.many(SESSIONS)
    struck(sandbox.gateway, away, times=SESSIONS)
    # The worker does not wait for it: the outcomes are in Redis, and the next ones are worked on.
    wait_for(lambda: sandbox.redis.hlen(SETTLEMENTS) == SESSIONS, 40, lambda: str(sandbox.redis.hlen(SETTLEMENTS)))
    assert all(
        change > 0 or change == -1 for made in load.all for change in sandbox.balance_changes(made.queued.owner_id)
    )
    sandbox.gateway.clear()
    begun = time.monotonic()
    ended(sandbox, load.all, 30)
    books = close(sandbox, load.all, "Supabase 503 at every refund", begun)
    assert books.failed == SESSIONS
    counts(worker, before, "failed", SESSIONS)


def test_a_refund_whose_answer_was_lost_is_given_once(sandbox: Sandbox, worker: Worker, load: Load) -> None:
    before = counted(worker)
    sandbox.openai.fault("moderation_blocked")
    sandbox.gateway.fault("drop_after", on="rpc/fail_generation", times=10)
    load.many(SESSIONS)
    ended(sandbox, load.all, 30)
    books = close(sandbox, load.all, "answers lost at every refund", time.monotonic())
    assert books.failed == SESSIONS
    counts(worker, before, "failed", SESSIONS, lost=10)


def counts(worker: Worker, before: Counter[str], end: str, sessions: int, lost: int = 0) -> None:
    """Hold the metric against the books: never more; a lost answer that another process finds done is not counted."""

    def right() -> bool:
        found = counted(worker) - before
        return set(found) == {end} and sessions - lost <= found[end] <= sessions

    wait_for(right, 10, lambda: f"counted {counted(worker) - before} for {sessions} {end}")


def close(sandbox: Sandbox, load: list[TryOn], outage: str, begun: float, calls_each: int = 1) -> Books:
    """The books, and a line in the table."""
    seconds = round(time.monotonic() - begun, 1)
    books = balance(sandbox, load, calls_each=calls_each)
    # One that was written while Redis was away is forgotten by the loop that comes by later.
    wait_for(lambda: sandbox.redis.hlen(SETTLEMENTS) == 0, 20, "outcomes are left")
    report("Outages under load", {"outage": outage, **books.row(), "seconds after it": seconds})
    return books
