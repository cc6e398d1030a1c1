"""Outages and refusals that no customer pays for: the intake pauses, one message probes, everything is made once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import monotonic, time

import pytest

from tests.integration.conftest import QUICK
from tests.integration.test_intake import intake
from tests.integration.worker_process import ENDED, WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from tests.sandbox.producer import QUEUE, Queued
from worker import errors

OUTAGE = {
    **QUICK,
    "GENERATION_TIMEOUT_SECONDS": "60",
    "FETCH_TIMEOUT_SECONDS": "20",  # a busy machine must not fail a photo here
    "BREAKER_PROBE_SECONDS": "1",
    "LEASE_SECONDS": "6",
}


@contextmanager
def workers(world: Sandbox, count: int = 1, **settings: str) -> Iterator[list[WorkerProcess]]:
    """So many instances in a clean world."""
    world.reset()
    processes = [WorkerProcess(world, **{**OUTAGE, **settings}) for _ in range(count)]
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            process.kill()


def statuses(world: Sandbox, queued: list[Queued]) -> set[str]:
    found = world.status_of_each()
    return {found[one.session_id] for one in queued}


def wait_until_completed(world: Sandbox, queued: list[Queued], seconds: float = 40) -> None:
    wait_for(lambda: statuses(world, queued) <= set(ENDED), seconds, lambda: f"sessions are {statuses(world, queued)}")
    rows = [world.session(one.channel, one.session_id) for one in queued]
    assert {(row["status"], row["error_message"]) for row in rows} == {("completed", None)}


def wait_for_pause(worker: WorkerProcess, reason: str) -> None:
    def degraded() -> bool:
        health = worker.health()
        return (health["status"], health["intake_paused"]) == ("degraded", reason)

    wait_for(degraded, 20, lambda: f"{worker.health()}")


def wait_until_handed_back(world: Sandbox) -> None:
    """Wait until no worker has a message: a message taken before the pause may still make its call."""
    wait_for(lambda: not world.redis.keys("wearon:claimed:*"), 30, "messages are kept")


def assert_paid_once(world: Sandbox, queued: list[Queued]) -> None:
    """One picture each, one credit each."""
    paid = [call.prompt for call in world.calls() if call.status == 200]
    assert sorted(paid) == sorted(one.message["prompt"] for one in queued)
    for one in queued:
        assert world.balance_changes(one.owner_id) == [10, -1]


def queue(world: Sandbox, count: int) -> list[Queued]:
    return [world.producer.b2c(prompt=f"message {number}.") for number in range(count)]


@pytest.mark.parametrize(
    ("kind", "options", "instances"),
    [("server_error", {"status": 503}, 2), ("drop", {}, 1), ("drop_midway", {"reset": True}, 1), ("hang", {}, 1)],
)
def test_an_outage_of_openai_fails_no_one_and_is_probed_by_one_call_at_a_time(
    world: Sandbox, kind: str, options: dict[str, object], instances: int
) -> None:
    with workers(world, instances, PROBE_TIMEOUT_SECONDS="2") as processes:
        if kind == "hang":
            # A first outage, so that the calls that hang are probes.
            first = world.openai.fault("server_error")
            opening = queue(world, 20)
            wait_for_pause(processes[0], "openai_unavailable")
            wait_until_handed_back(world)
            world.openai.fault(kind, **options)
            world.openai.clear(first)
        else:
            world.openai.fault(kind, **options)
            opening = queue(world, 20)
        for process in processes:
            wait_for_pause(process, "openai_unavailable")
        if kind != "hang":
            wait_until_handed_back(world)
        opened, before = time(), len(world.calls())
        later = queue(world, 20)
        wait_for(lambda: len(world.calls()) >= before + 4, 30, "nothing probes")
        assert statuses(world, [*opening, *later]) <= {"queued", "processing"}
        probes = [call for call in world.calls() if call.started > opened]
        assert all(first.finished and first.finished <= second.started for first, second in pairwise(probes))
        assert len({call.prompt for call in probes}) > 1
        recovered = monotonic()
        world.openai.clear()
        wait_for(lambda: processes[0].health()["status"] == "ok", 30, lambda: f"{processes[0].health()}")
        assert monotonic() - recovered < 10
        wait_until_completed(world, [*opening, *later])
        assert_paid_once(world, [*opening, *later])


def test_a_lone_message_survives_an_outage_even_without_retries(world: Sandbox) -> None:
    with workers(world, OPENAI_MAX_RETRIES="0") as [worker]:
        world.openai.fault("server_error")
        queued = queue(world, 1)
        wait_for_pause(worker, "openai_unavailable")
        wait_for(lambda: len(world.calls()) >= 4, 20, "nothing probes")
        world.openai.clear()
        wait_until_completed(world, queued)
        assert_paid_once(world, queued)


def test_a_quota_that_returns_is_seen_by_one_probe(world: Sandbox) -> None:
    with workers(world, 2) as processes:
        world.openai.fault("insufficient_quota")
        queued = queue(world, 30)
        for process in processes:
            wait_for_pause(process, "quota_exhausted")
        wait_until_handed_back(world)
        begun, before = time(), len(world.calls())
        wait_for(lambda: len(world.calls()) >= before + 2, 20, "nothing probes")
        probes = [call for call in world.calls() if call.started > begun]
        assert all(second.started - first.started > 1.9 for first, second in pairwise(probes))
        world.openai.clear()
        wait_until_completed(world, queued)
        assert_paid_once(world, queued)


def test_a_probe_that_is_no_proof_leaves_the_pause_to_the_next_message(world: Sandbox) -> None:
    with workers(world, QUOTA_PAUSE_SECONDS="600") as [worker]:
        world.openai.fault("insufficient_quota", contains="message 0", times=1)
        world.openai.fault("moderation_blocked", contains="blocked")
        first = queue(world, 1)
        wait_for_pause(worker, "quota_exhausted")
        [waiting] = wait_for(lambda: world.redis.lrange(QUEUE, 0, -1), 10, "the message did not go back")
        blocked, old = (world.producer.b2c(prompt="blocked", push=False) for _ in range(2))
        moment = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
        # The right end is taken first.
        world.redis.rpush(QUEUE, json.dumps(blocked.message), json.dumps({**old.message, "created_at": moment}), "{}")
        intake(world, "resume", "--now")
        wait_until_completed(world, first)
        for failed in (blocked, old):
            assert world.settled("b2c", failed.session_id)["status"] == "failed"
            assert world.balance_changes(failed.owner_id) == [10, -1, 1]
        ended = [line["session_id"] for line in worker.logs("message_taken", probe="quota_exhausted")]
        assert ended == [old.session_id, blocked.session_id, first[0].session_id]
        assert json.loads(waiting)["session_id"] == first[0].session_id


def test_the_death_of_the_probes_worker_hands_the_probe_on(world: Sandbox) -> None:
    with workers(world, 2) as processes:
        refusal = world.openai.fault("insufficient_quota")
        queued = queue(world, 6)
        for process in processes:
            wait_for_pause(process, "quota_exhausted")
        wait_until_handed_back(world)
        world.openai.fault("hang")
        world.openai.clear(refusal)
        wait_for(lambda: world.openai.summary()["in_flight"] == 1, 15, "nothing probes")
        prompt = world.calls()[-1].prompt
        [victim] = [
            process
            for process in processes
            if process.logs("message_taken", probe="quota_exhausted")
            and process.logs("message_taken", probe="quota_exhausted")[-1]["session_id"]
            == next(one.session_id for one in queued if one.message["prompt"] == prompt)
        ]
        victim.kill()
        world.openai.clear()
        survivors = [one for one in queued if one.message["prompt"] != prompt]
        wait_until_completed(world, survivors, 30)
        # Its worker may have paid, so it is not called for again.
        killed = next(one for one in queued if one.message["prompt"] == prompt)
        assert world.settled("b2c", killed.session_id, 40)["status"] == "failed"
        assert world.balance_changes(killed.owner_id) == [10, -1, 1]


def test_a_picture_that_openai_chokes_on_fails_alone(world: Sandbox) -> None:
    with workers(world, OPENAI_MAX_RETRIES="0", WORKER_CONCURRENCY="4") as [worker]:
        world.openai.fault("server_error", contains="poison")
        others = queue(world, 8)
        poison = world.producer.b2c(prompt="poison")

        def ended() -> bool:
            # Always some that wait, and never more than are worked off.
            if world.session("b2c", others[-8].session_id)["status"] in ENDED:
                others.append(world.producer.b2c(prompt=f"message {len(others)}."))
            return bool(world.session("b2c", poison.session_id)["status"] in ENDED)

        wait_for(ended, 40, "the poison loops")
        row = world.session("b2c", poison.session_id)
        assert (row["status"], row["error_message"]) == ("failed", errors.EditFailed.user_message)
        assert world.balance_changes(poison.owner_id) == [10, -1, 1]
        assert len(world.calls("poison")) == 4  # handed back three times
        wait_until_completed(world, others)
        assert not worker.logs("breaker_opened")


def test_pictures_that_are_paid_for_wait_for_a_storage_that_refuses_the_account(world: Sandbox) -> None:
    with workers(world, SUPABASE_STORAGE_BUCKET="renamed", WORKER_CONCURRENCY="4") as [worker]:
        queued = queue(world, 12)
        wait_for_pause(worker, "storage_refused")
        wait_for(lambda: len(worker.logs("picture_waits_for_storage")) == len(world.calls()), 10, "no picture waits")
        assert len(world.calls()) <= 4  # the slots
        assert statuses(world, queued) <= {"queued", "processing"}
        headers = {"apikey": world.service_key, "Authorization": f"Bearer {world.service_key}"}
        body = {"id": "renamed", "name": "renamed", "public": False}
        HTTP.post(f"{world.supabase_url}/storage/v1/bucket", headers=headers, json=body).raise_for_status()
        wait_until_completed(world, queued, 40)
        assert_paid_once(world, queued)


def test_a_picture_that_is_refused_until_the_deadline_is_refunded_and_no_further_one_is_paid_for(
    world: Sandbox,
) -> None:
    with workers(world, SUPABASE_STORAGE_BUCKET="renamed", GENERATION_TIMEOUT_SECONDS="4") as [worker]:
        [queued] = queue(world, 1)
        row = world.settled("b2c", queued.session_id)
        assert (row["status"], row["error_message"]) == ("failed", errors.StorageFailed.user_message)
        assert world.balance_changes(queued.owner_id) == [10, -1, 1]
        later = queue(world, 2)
        wait_for(lambda: worker.logs("generation_postponed", reason="storage_refused", probe=True), 20, "no probe")
        assert len(world.calls()) == 1
        assert worker.health()["intake_paused"] == "storage_refused"
        assert statuses(world, later) <= {"queued", "processing"}


def test_messages_that_waited_too_long_are_refunded_without_a_call_and_pauses_do_not_count(world: Sandbox) -> None:
    with workers(world, MESSAGE_TTL_SECONDS="5", MESSAGE_TTL_MAX_SECONDS="30"):
        intake(world, "pause")
        queued = queue(world, 2)
        ages = {"in the pause": 4, "before it": 8, "long before it": 40}
        made = {name: world.producer.b2c(push=False, prompt=name) for name in ages}
        for name, seconds in ages.items():
            moment = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
            world.producer.push({**made[name].message, "created_at": moment})
        begun = monotonic()
        wait_for(lambda: monotonic() - begun > 6, 10, "time stands still")
        intake(world, "resume")
        wait_until_completed(world, [*queued, made["in the pause"]])
        for name in ("before it", "long before it"):
            row = world.settled("b2c", made[name].session_id)
            assert (row["status"], row["error_message"]) == ("failed", errors.MessageExpired.user_message)
            assert world.balance_changes(made[name].owner_id) == [10, -1, 1]
            assert not world.calls(name)


def test_an_operator_lets_the_next_message_probe_at_once(world: Sandbox) -> None:
    with workers(world, QUOTA_PAUSE_SECONDS="600") as [worker]:
        world.openai.fault("insufficient_quota", times=1)
        queued = queue(world, 1)
        wait_for_pause(worker, "quota_exhausted")
        status = json.loads(intake(world, "status", "--json"))
        assert status["intake_paused"] == "quota_exhausted"
        assert status["probe"].startswith(("in 5", "in 600"))
        assert "paused: quota_exhausted, for" in intake(world, "status")
        assert "it was not paused" in intake(world, "resume")
        assert "the next message probes now" in intake(world, "resume", "--now")
        wait_until_completed(world, queued)
