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
LIMITER = "wearon:limiter:openai"


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
        steps.reach_limiter()
        frozen = load.one("user", push=False)
        steps.expect(frozen, "claimed", "completed")
        _claim_without_start(sandbox, worker, frozen)
        worker.kill()
        steps.heal()
        poison = steps.only_poison_hangs()
        worker.start()
        struck(sandbox.gateway, poison)
        ended(sandbox, [made for made in load.all if made is not steps.poison], 30)
        seen = scrape(worker.url)
        assert seen.value("wearon_pictures_rescued_total") == 2
        # All but those whose settlement was kept.
        assert seen.value("wearon_messages_put_back_total") >= len(load.all) - 3
        worker.kill()
        worker.start()
        struck(sandbox.gateway, poison, 2)
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
    assert steps.paid_calls() <= 1


class Steps:
    """One session for each step of a generation, which hangs exactly there."""

    def __init__(self, sandbox: Sandbox, load: Load) -> None:
        self._sandbox = sandbox
        self._load = load
        self._made: dict[str, TryOn] = {}
        self.expected: dict[str, str] = {}
        self._hanging: list[tuple[object, int]] = []
        sandbox.photos.put("never.jpg", hang=True)
        sandbox.photos.put("missing.jpg", status=404)
        self._hang("leased", "completed", "rpc/start_generation")
        self.poison = self._hang("leased, three times", "failed", "rpc/start_generation")
        never = [sandbox.photos.url("never.jpg")]
        self._fetching = self.expect(load.one(push=False, images=never), "started", "completed")
        self._waiting = load.one("store for a shopper", push=False)
        calling = self.expect(load.one("store", push=False), "calling", "failed")
        self._hanging.append((sandbox.openai, sandbox.openai.fault("hang", contains=calling.mark)))
        self._hang("answered", "failed", "storage/upload")
        self._hang_repeated("uploading", "storage/upload")
        self._hang("uploaded", "completed", "storage/sign")
        self._hang("settlement kept", "completed", "rpc/complete_generation")
        self._hang_repeated("settled", "rpc/complete_generation")
        self._hang("refund kept", "failed", "rpc/fail_generation", images=[sandbox.photos.url("missing.jpg")])

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

    def reach_limiter(self) -> None:
        """One more session, for whose call the account has no room."""
        self.expect(self._waiting, "waiting for the limiter", "completed")
        seconds, microseconds = self._sandbox.redis.time()
        now = seconds * 1_000_000 + microseconds
        self._sandbox.redis.zadd(LIMITER, {f"other-{number}": now for number in range(300)})
        places = self._sandbox.redis.zcard(LIMITER)
        self._sandbox.producer.push(self._waiting.queued.message)
        wait_for(lambda: self._sandbox.redis.zcard(LIMITER) > places, 20, "nothing waits for its turn")

    def heal(self) -> None:
        """OpenAI and the photo host answer again, and the account has room."""
        self._sandbox.openai.clear()
        self._sandbox.photos.put("never.jpg", self._sandbox.photos.send("GET", "/person.jpg"))
        self._sandbox.redis.delete(LIMITER)

    def paid_calls(self) -> int:
        """The most pictures that OpenAI has made for one session."""
        return max(sum(call.status == 200 for call in self._sandbox.calls(made.mark)) for made in self._made.values())

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

    def _hang_repeated(self, step: str, operation: str) -> None:
        """The operation is done and its answer lost; before it can be asked for again, the worker is dead."""
        made = self.expect(self._load.one("overage", push=False), step, "completed")
        fault = {"on": operation, "contains": made.id}
        self._hanging.append((self._sandbox.gateway, self._sandbox.gateway.fault("drop_after", times=1, **fault)))
        self._sandbox.gateway.fault("hang", **fault)


def _claim_without_start(sandbox: Sandbox, worker: Worker, made: TryOn) -> None:
    """The message is taken from the queue while the pool stands still."""
    os.kill(worker.pool, signal.SIGSTOP)
    sandbox.producer.push(made.queued.message)
    wait_for(lambda: worker.logs("message_taken", session_id=made.id), 5, "the message was not taken")
