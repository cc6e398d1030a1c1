"""`wearon-worker intake` and a rollout's hold, as the running worker obeys them."""

import json
import re
from pathlib import Path

from tests import command
from tests.integration.conftest import QUICK
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox


def intake(world: Sandbox, *arguments: str) -> str:
    """Run the command as an operator would."""
    done = command.run(world.env(), "intake", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_maintenance_keeps_the_queue_over_a_restart_until_it_is_ended(world: Sandbox) -> None:
    world.reset()
    with WorkerProcess(world, **QUICK) as worker:
        assert re.search(r"paused: maintenance, for \d+ s; 0 wait", intake(world, "pause"))
        queued = world.producer.b2c()
        wait_for(lambda: worker.health()["intake_paused"] == "maintenance", 10, "the pause is not in /health")
        assert "paused already" in intake(world, "pause")
    with WorkerProcess(world, **QUICK) as worker:
        wait_for(lambda: worker.health()["intake_paused"] == "maintenance", 20, "the restart ended the pause")
        status = json.loads(intake(world, "status", "--json"))
        assert status.pop("paused_seconds") > 0
        assert status == {
            "intake_paused": "maintenance",
            "probe": None,
            "messages_waiting": 1,
            "messages_taken": 0,
        }
        assert world.session("b2c", queued.session_id)["status"] == "queued"
        assert "messages are taken" in intake(world, "resume")
        assert world.settled("b2c", queued.session_id)["status"] == "completed"
        assert "it was not paused" in intake(world, "resume")


def test_no_more_calls_than_allowed_are_in_flight_and_no_more_is_taken_than_can_be_prepared(world: Sandbox) -> None:
    world.reset()
    world.openai.fault("slow", delay=60)  # all are in flight before the first one ends
    settings = {**QUICK, "WORKER_CONCURRENCY": "25", "GENERATION_TIMEOUT_SECONDS": "60"}
    with WorkerProcess(world, **settings) as worker:
        queued = [world.producer.b2c() for _ in range(30)]
        wait_for(lambda: world.openai.summary()["in_flight"] == 25, 20, "the slots are not filled")
        wait_for(lambda: len(worker.logs("message_taken")) == 26, 5, "nothing is prepared meanwhile")
        world.openai.clear()
        assert [world.settled("b2c", item.session_id)["status"] for item in queued] == ["completed"] * 30
    assert world.openai.summary()["peak_in_flight"] == 25


def test_a_held_container_is_ready_and_takes_nothing_until_the_hold_is_lifted(world: Sandbox, tmp_path: Path) -> None:
    world.reset()
    hold = tmp_path / "hold"
    hold.touch()
    with WorkerProcess(world, **QUICK, INTAKE_HOLD_FILE=str(hold)) as worker:
        queued = world.producer.b2c()
        wait_for(lambda: worker.health()["intake_paused"] == "rollout", 20, "the hold is not in /health")
        assert world.session("b2c", queued.session_id)["status"] == "queued"
        hold.unlink()
        assert world.settled("b2c", queued.session_id)["status"] == "completed"
