"""Two regions, each with its own Redis and worker, on one database and one OpenAI account: one loses its power."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Self

import pytest
import redis

from tests.chaos.books import balance
from tests.chaos.load import PAYERS, Load, TryOn, ended, reached, report
from tests.chaos.worker import FULL, LEASE_SECONDS, Worker
from tests.integration.worker_process import ROOT, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import QUEUE
from tests.sandbox.valkey import Valkey
from worker.generation.limiter.scripts import USAGE

LIMITER = "wearon:limiter:openai"
#: The limiter's longest window, in microseconds.
WINDOW = 60_900_000
#: Messages of each region, calls a minute of the account, slots of each worker, seconds of a call. A generation
#: that was killed between its turn and its call takes a second turn, for which the short version has room.
EACH, LIMIT, SLOTS, LATENCY = (300, 300, 60, 4.0) if FULL else (30, 70, 8, 0.7)


class Region:
    """A region with the sandbox's Redis or with one of its own; calls are counted in the sandbox's."""

    def __init__(self, sandbox: Sandbox, name: str, valkey: Valkey, **environment: str) -> None:
        self.valkey = valkey
        self.environment = {
            "REGION": name,
            "REDIS_URL": valkey.url,
            "LIMITER_REDIS_URL": sandbox.redis_url,
            "OPENAI_REQUESTS_PER_MINUTE": str(LIMIT),
            "WORKER_CONCURRENCY": str(SLOTS),
            **environment,
        }
        self._sandbox = sandbox
        self.worker = Worker(sandbox, **self.environment)

    def load(self, load: Load) -> list[TryOn]:
        """Push try-ons of all kinds to this region."""
        made = [load.one(PAYERS[index % len(PAYERS)], push=False) for index in range(EACH)]
        with redis.Redis.from_url(self.valkey.url) as client:
            for one in made:
                client.lpush(QUEUE, json.dumps(one.queued.message))
        return made

    def lose_power(self) -> None:
        """SIGKILL for the worker and the Redis."""
        self.worker.kill()
        self.valkey.kill()

    def move_queue(self, target: str) -> None:
        """Move the queue by the operator's command; the leases of the dead worker run out first."""

        def is_moved() -> bool:
            done = subprocess.run(
                [sys.executable, "-m", "worker", "queue", "move", "--to", "TARGET"],
                cwd=ROOT,
                env={**os.environ, **self._sandbox.env(**self.environment, TARGET=target)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            answers.append(done.stdout + done.stderr)
            return done.returncode == 0

        answers: list[str] = []
        wait_for(is_moved, 10 * LEASE_SECONDS, lambda: f"the queue was not moved: {answers[-1]}")


@contextmanager
def regions(sandbox: Sandbox) -> Iterator[tuple[Region, Region]]:
    """Two regions with their workers; the first one ends sessions that no region has started."""
    distant = Valkey(Path(mkdtemp(dir=sandbox.folder)))
    distant.start()
    try:
        eu = Region(sandbox, "eu", sandbox.valkey, SWEEP_ORPHANS="true")
        us = Region(sandbox, "us", distant)
        with eu.worker, us.worker:
            yield eu, us
    finally:
        distant.kill()


class Watch:
    """Looks at the limiter all the time: calls of the last window, and calls that wait."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._redis = sandbox.redis
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seen: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def least_while_calls_wait(self) -> int | None:
        """The fewest calls of a window while others waited for a turn; None: none ever waited."""
        return min((started for started, waiting in self.seen if waiting), default=None)

    def _look(self) -> None:
        while not self._over.wait(0.5):
            started, waiting = self._redis.eval(USAGE, 1, LIMITER, WINDOW)
            self.seen.append((started, waiting))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fate", ["moved", "restarted"] if FULL else ["moved"])
def test_a_region_that_is_killed_loses_nothing_and_doubles_nothing(sandbox: Sandbox, fate: str) -> None:
    load = Load(sandbox, balance=2 * EACH)
    sandbox.openai.set(latency={"median": LATENCY, "sigma": 0.3})
    with regions(sandbox) as (eu, us), Watch(sandbox) as watch:
        ours, theirs = eu.load(load), us.load(load)
        reached(sandbox, theirs, "completed", EACH // 6, 60)
        us.lose_power()
        us.valkey.start()
        if fate == "moved":
            us.move_queue(sandbox.redis_url)
        else:
            us.worker.start()
        ended(sandbox, load.all, 300 if FULL else 40)
        calls = sandbox.openai.summary()
        counted = sandbox.redis.zcard(LIMITER)
    books = balance(sandbox, load.all)
    least = watch.least_while_calls_wait()
    row = {"fate": fate, **books.row(), **calls, "least while calls wait": least}
    report("A region killed, its queue moved or its worker restarted", row)
    assert books.sessions == len(ours) + len(theirs) == books.completed + books.failed
    # Only calls in flight are lost with their worker.
    assert books.failed <= SLOTS
    assert calls["max_per_minute"] <= LIMIT
    # The whole limit is used, as far as the machine keeps up: no call waits while there is room.
    assert least is None or least >= 0.95 * LIMIT
    if not FULL:  # all within a minute: the one limiter has counted the calls of both regions
        assert counted >= calls["total"] >= 2 * EACH - SLOTS
