"""A worker that is stopped (SIGSTOP) for longer than its leases and continued: it comes back late and does no harm."""

import pytest

from tests.chaos.books import balance
from tests.chaos.load import Load, ended, reached, report, statuses, struck
from tests.chaos.worker import FULL, LEASE_SECONDS, Worker
from tests.integration.worker_process import wait_for
from tests.sandbox import Sandbox

#: Longer than a lease; in the full version also longer than every heartbeat.
FROZEN_SECONDS = 60 if FULL else 1.5 * LEASE_SECONDS


@pytest.mark.chaos_full
def test_a_frozen_worker_alone_goes_on_where_it_was(sandbox: Sandbox, load: Load) -> None:
    sandbox.openai.set(latency=2)
    with Worker(sandbox) as worker:
        load.many(12)
        reached(sandbox, load.all, "processing", 8)
        with worker.frozen(FROZEN_SECONDS):
            pass
        ended(sandbox, load.all, 30)
    books = balance(sandbox, load.all)
    report("A frozen worker", {"seconds": FROZEN_SECONDS, "with another one": False, **books.row()})
    assert books.failed == 0


def test_a_late_worker_neither_changes_nor_pays_for_what_another_one_took_over(sandbox: Sandbox, load: Load) -> None:
    sandbox.openai.set(latency=4)
    with Worker(sandbox, RATE_LIMIT_RETRY_SECONDS=str(LEASE_SECONDS)) as late:
        # Its start is asked for and not answered: "processing" will not be its own doing when it asks again.
        starting = load.one("store", push=False)
        asked = sandbox.gateway.fault("hang", on="rpc/start_generation", contains=starting.id, times=1)
        # It waits out a 429 with its session queued again.
        waiting = load.one("user", push=False)
        sandbox.openai.fault("rate_limited", contains=waiting.mark, times=1)
        for made in (starting, waiting):
            sandbox.producer.push(made.queued.message)
        calling = load.many(4)
        struck(sandbox.gateway, asked)
        wait_for(lambda: late.logs("generation_requeued"), 10, "no 429")
        wait_for(lambda: sandbox.openai.summary()["in_flight"] == 4, 10, "OpenAI was not called")
        with late.frozen(FROZEN_SECONDS), Worker(sandbox) as other:
            both = wait_for(
                lambda: sandbox.calls(starting.mark) and sandbox.calls(waiting.mark)[1:], 20, "not taken over"
            )
            assert both
            ended(sandbox, calling, 20)  # else the late one could still take their leases back
            sandbox.gateway.clear()  # the late one's request breaks, so it asks again
            late.thaw()
            more = load.many(10)  # both work on
            ended(sandbox, load.all, 30)
            wait_for(lambda: late.health()["parts"]["celery"]["active"] == 0, 20, "a generation is left")
            assert other.stop() == 0
    assert statuses(sandbox, [starting, waiting, *more]) == {"completed": 12}
    assert statuses(sandbox, calling) == {"failed": 4}
    assert len(sandbox.calls(starting.mark)) == 1
    books = balance(sandbox, load.all, calls_each=2)
    report("A frozen worker", {"seconds": FROZEN_SECONDS, "with another one": True, **books.row()})
