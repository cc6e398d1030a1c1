"""Power off: the whole process group is killed, at random moments and at each step of a generation."""

import json
import os
import random
import signal
import time
from base64 import b64decode
from collections.abc import Sequence

import pytest

from tests.chaos.books import balance
from tests.chaos.load import Load, TryOn, dead_letters, ended, reached, report, struck
from tests.chaos.worker import FULL, Worker
from tests.integration.scrape import scrape
from tests.integration.worker_process import wait_for
from tests.sandbox import Sandbox

SESSIONS, KILLS = 40, 4


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5] if FULL else [1])
def test_kills_at_random_moments_lose_nothing_and_double_nothing(sandbox: Sandbox, seed: int) -> None:
    chance = random.Random(seed)
    sandbox.openai.set(latency={"median": 0.7, "sigma": 0.5})
    load = Load(sandbox, seed)
    load.many(SESSIONS // 2)
    with Worker(sandbox) as worker:
        for _ in range(KILLS):
            load.many(SESSIONS // 2 // KILLS)
            time.sleep(chance.uniform(0, 2.5))
            worker.kill()
            worker.start(ready=chance.random() < 0.7)  # otherwise it is hit while it starts
        ended(sandbox, load.all, 60)
        books = balance(sandbox, load.all)
    report(f"{KILLS} kills at random moments, {SESSIONS} sessions", {"seed": seed, **books.row()})


def test_a_kill_at_each_step_has_its_known_end(sandbox: Sandbox, load: Load) -> None:
    with Worker(sandbox, WORKER_CONCURRENCY="20") as worker:
        steps = Steps(sandbox, load)
        steps.reach()
        frozen = load.one("user", push=False)
        steps.expect(frozen, "after claim", "completed")
        _claim_without_start(sandbox, worker, frozen)
        worker.kill()
        sandbox.openai.clear()
        poison = steps.only_poison_hangs()
        worker.start()
        struck(sandbox.gateway, poison)
        ended(sandbox, [made for made in load.all if made is not steps.poison], 30)
        # But for those whose end is known, each is put back, or found stuck when its lease ran out between two looks.
        seen = scrape(worker.url)
        stuck = sum(seen.values("wearon_stuck_sessions_total").values())
        assert seen.value("wearon_messages_put_back_total") + stuck >= len(load.all) - 3
        worker.kill()
        sandbox.gateway.clear()
        worker.start()
        ended(sandbox, load.all, 30)
        assert scrape(worker.url).value("wearon_messages_refused_total", reason="poison") == 1
        (letter,) = dead_letters(sandbox)
        assert letter["reason"] == "poison"
        assert b64decode(letter["payload"]) == json.dumps(steps.poison.queued.message).encode()
    balance(sandbox, load.all)
    report("A kill at each step", *steps.rows())
    assert steps.ends() == steps.expected


class Steps:
    """One session for each step of a generation, which hangs exactly there."""

    def __init__(self, sandbox: Sandbox, load: Load) -> None:
        self._sandbox = sandbox
        self._load = load
        self._made: dict[str, TryOn] = {}
        self.expected: dict[str, str] = {}
        self._hanging: list[tuple[object, int]] = []
        photos = sandbox.photos
        photos.put("never.jpg", hang=True)
        photos.put("missing.jpg", status=404)
        self._hang("before start", "completed", "rpc/start_generation")
        self.poison = self._hang("before start, twice", "failed", "rpc/start_generation")
        self._fetching = self.expect(load.one(push=False, images=[photos.url("never.jpg")]), "after start", "failed")
        editing = self.expect(load.one("store", push=False), "during edit", "failed")
        self._hanging.append((sandbox.openai, sandbox.openai.fault("hang", contains=editing.mark)))
        self._hang("after edit", "failed", "storage/upload")
        self._hang("after upload", "failed", "storage/sign")
        self._hang("before settle", "completed", "rpc/complete_generation")
        # The end is written and its answer lost; before it can be asked for again, the worker is dead.
        settled = self.expect(load.one("overage", push=False), "after settle", "completed")
        fault = {"on": "rpc/complete_generation", "contains": settled.id}
        self._hanging.append((sandbox.gateway, sandbox.gateway.fault("drop_after", times=1, **fault)))
        sandbox.gateway.fault("hang", **fault)
        self._hang("before refund", "failed", "rpc/fail_generation", images=[photos.url("missing.jpg")])

    def expect(self, made: TryOn, step: str, end: str) -> TryOn:
        """Expect the status `end` after a kill at this step."""
        self._made[step], self.expected[step] = made, end
        return made

    def reach(self) -> None:
        """Queue all sessions and wait until each is at its step."""
        for made in self._made.values():
            self._sandbox.producer.push(made.queued.message)
        for remote, fault in self._hanging:
            struck(remote, fault)
        reached(self._sandbox, [self._fetching], "processing", 1)

    def only_poison_hangs(self) -> int:
        """Clear every fault but a hanging start of the poison session; returns that fault."""
        fault = self._sandbox.gateway.fault("hang", on="rpc/start_generation", contains=self.poison.id)
        for rule in self._sandbox.gateway.faults():
            if rule["id"] != fault:
                self._sandbox.gateway.clear(rule["id"])
        return fault

    def ends(self) -> dict[str, str]:
        """The end of each session."""
        return {
            step: self._sandbox.session(made.queued.channel, made.id)["status"] for step, made in self._made.items()
        }

    def rows(self) -> list[dict[str, object]]:
        """The rows of the table."""
        calls = {step: self._sandbox.calls(made.mark) for step, made in self._made.items()}
        return [
            {
                "step": step,
                "outcome": end,
                "calls": len(calls[step]),
                "paid": sum(call.status == 200 for call in calls[step]),
            }
            for step, end in self.ends().items()
        ]

    def _hang(self, step: str, end: str, operation: str, images: Sequence[str] = ()) -> TryOn:
        made = self.expect(self._load.one("shopper", push=False, images=images), step, end)
        # Uploads and signatures are known by their path, calls of functions by the session in their body.
        fault = self._sandbox.gateway.fault("hang", on=operation, contains=made.id)
        self._hanging.append((self._sandbox.gateway, fault))
        return made


def _claim_without_start(sandbox: Sandbox, worker: Worker, made: TryOn) -> None:
    """The message is taken from the queue while the pool stands still."""
    os.kill(worker.pool, signal.SIGSTOP)
    sandbox.producer.push(made.queued.message)
    wait_for(lambda: worker.logs("message_taken", session_id=made.id), 5, "the message was not taken")
