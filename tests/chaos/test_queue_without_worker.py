"""Sessions queued, forgotten or started without a running worker are finished or settled by the next worker."""

import time

from tests.chaos.books import balance
from tests.chaos.load import Load, ended, statuses
from tests.chaos.worker import GRACE_SECONDS, LEASE_SECONDS, Worker
from tests.integration.worker_process import wait_for
from tests.sandbox import Sandbox


def test_a_start_settles_what_was_left_behind_and_leaves_alone_what_is_fresh(sandbox: Sandbox, load: Load) -> None:
    sandbox.openai.fault("hang")
    begun = load.many(5)
    with Worker(sandbox) as worker:
        wait_for(lambda: len(sandbox.calls()) == 5, 20, "OpenAI was not called")
        worker.kill()
        sandbox.openai.clear()
        orphans = load.many(5, push=False)
        waiting = load.many(10)
        # All of it is older than the grace period then, also what still has its message; and the leases have run out.
        time.sleep(max(GRACE_SECONDS, LEASE_SECONDS))
        worker.start()
        ended(sandbox, [*begun, *orphans], 10)
        assert statuses(sandbox, [*begun, *orphans]) == {"failed": 10}
        # The producer inserts the session first and pushes its message seconds later.
        fresh = load.many(5, push=False)
        inserted = time.monotonic()
        time.sleep(max(0.0, inserted + GRACE_SECONDS / 2 - time.monotonic()))
        assert statuses(sandbox, fresh) == {"queued": 5}
        for made in fresh[:4]:
            sandbox.producer.push(made.queued.message)
        ended(sandbox, load.all, 30)
        assert statuses(sandbox, waiting) == {"completed": 10}
        assert statuses(sandbox, fresh) == {"completed": 4, "failed": 1}
    balance(sandbox, load.all)
