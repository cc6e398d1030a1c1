"""SIGTERM: nothing new is taken, what runs is finished, the rest goes back; a second SIGTERM shortens that."""

import time
from signal import SIGTERM

import httpx
import pytest

from tests.chaos.books import balance
from tests.chaos.load import Load, ended, reached, report, statuses
from tests.chaos.worker import FULL, Worker
from tests.integration.worker_process import wait_for
from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from tests.sandbox.producer import QUEUE

RESTARTS = 20 if FULL else 4


@pytest.mark.timeout(600)
def test_restarts_under_load_fail_no_session_and_take_nothing_new(sandbox: Sandbox, load: Load) -> None:
    sandbox.openai.set(latency={"median": 0.7, "sigma": 0.5})
    drains = []
    with Worker(sandbox) as worker:
        for turn in range(RESTARTS):
            count = (4, 8)[turn % 2]  # with free slots, and with none
            load.many(count)
            reached(sandbox, load.all[-count:], "processing", 1)
            begun = time.monotonic()
            worker.signal(SIGTERM)
            wait_for(lambda: not _is_ready(worker), 1, "still ready a second after SIGTERM")
            late = load.many(2)
            assert worker.wait(30) == 0
            drains.append(time.monotonic() - begun)
            assert statuses(sandbox, late) == {"queued": 2}
            # No session has a worker, and unstarted messages are where another instance finds them.
            assert set(statuses(sandbox, load.all)) <= {"completed", "queued"}
            assert sandbox.redis.llen(QUEUE) == statuses(sandbox, load.all)["queued"]
            assert [sandbox.redis.keys(f"wearon:{kind}:*") for kind in ("claimed", "lease", "alive")] == [[], [], []]
            worker.start()
        ended(sandbox, load.all, 60)
    books = balance(sandbox, load.all)
    assert books.failed == 0
    report(
        "Graceful restarts under load", {"restarts": RESTARTS, **books.row(), "longest drain": round(max(drains), 1)}
    )


def _is_ready(worker: Worker) -> bool:
    try:
        return HTTP.get(f"{worker.url}/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("how", ["second signal", *(["drain time-out"] if FULL else [])])
def test_a_shortened_drain_hands_back_what_was_not_paid_for(sandbox: Sandbox, load: Load, how: str) -> None:
    slow = sandbox.photos.put("slow.jpg", hang=True)
    sandbox.openai.fault("hang")
    called = load.many(3)
    uncalled = [load.one("shopper", images=[slow]) for _ in range(3)]
    seconds = "60" if how == "second signal" else "1"
    with Worker(sandbox, DRAIN_TIMEOUT_SECONDS=seconds, FETCH_TIMEOUT_SECONDS="60") as worker:
        reached(sandbox, uncalled, "processing", 3)
        wait_for(lambda: len(sandbox.calls()) == 3, 10, "OpenAI was not called")
        begun = time.monotonic()
        worker.signal(SIGTERM)
        if how == "second signal":
            wait_for(lambda: worker.health()["state"] == "draining", 2, "not draining")
            worker.signal(SIGTERM)
        assert worker.wait(15) == 0
        assert time.monotonic() - begun < 10
        assert statuses(sandbox, called) == {"failed": 3}
        assert statuses(sandbox, uncalled) == {"queued": 3}
        assert sandbox.redis.llen(QUEUE) == 3
        sandbox.photos.reset()
        sandbox.photos.put("slow.jpg", sandbox.photos.send("GET", "/person.jpg"))
        sandbox.openai.clear()
        worker.start()
        ended(sandbox, load.all, 30)
    books = balance(sandbox, load.all)
    assert (books.completed, books.failed) == (3, 3)
