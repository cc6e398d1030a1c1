"""One worker for all tests that only need a running one; each test has its own sessions, told apart by its prompt."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.worker_process import ENDED, WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued

#: Production's behaviour, in seconds instead of minutes.
QUICK = {
    "WORKER_CONCURRENCY": "20",
    "RATE_LIMIT_RETRY_SECONDS": "1",
    "OPENAI_MAX_RETRIES": "2",
    "GENERATION_TIMEOUT_SECONDS": "12",
    "FETCH_TIMEOUT_SECONDS": "3",
    "QUOTA_PAUSE_SECONDS": "2",
    "SWEEP_INTERVAL_SECONDS": "1",
    # The faults of one test must not open the breaker for the next one; test_pauses.py is about the breaker.
    "BREAKER_CALLS": "1000",
}


@pytest.fixture(scope="module")
def worker(world: Sandbox) -> Iterator[WorkerProcess]:
    """A worker that runs while the module's tests run."""
    world.reset()
    with WorkerProcess(world, **QUICK) as process:
        yield process


@pytest.fixture
def around(world: Sandbox, worker: WorkerProcess) -> Iterator[Sandbox]:
    """The sandbox around the running worker, without faults; rows, messages and objects of other tests stay."""
    yield world
    world.openai.clear()
    world.gateway.clear()


@pytest.fixture
def marker() -> str:
    """A prompt that only this test uses."""
    return f"test-{uuid4().hex[:8]}"


Ended = Callable[..., dict[str, Any]]


@pytest.fixture
def ended(world: Sandbox) -> Ended:
    """Waits for a session's end and returns its row."""

    def wait(queued: Queued, seconds: float = 20) -> dict[str, Any]:
        def row() -> dict[str, Any] | None:
            found = world.session(queued.channel, queued.session_id)
            return dict(found) if found["status"] in ENDED else None

        def problem() -> str:
            return f"{queued.session_id} went {world.statuses(queued.session_id)} in {seconds} s"

        return dict(wait_for(row, seconds, problem))

    return wait
