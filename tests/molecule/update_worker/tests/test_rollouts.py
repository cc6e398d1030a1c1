"""Good and bad releases while customers ask and generations run. The tests build on each other; the last one counts."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.molecule.hosts import ROOT, Played
from tests.molecule.update_worker.tests.conftest import Generations, Load, Worker

Play = Callable[..., Played]
pytestmark = pytest.mark.usefixtures("load", "generations")
ONE = ("--limit", "rolling")
#: Two workers on the host; the plays without this go back to one.
TWICE = (*ONE, "-e", "worker_replicas=2")
OLD, NEW = "rolling-rolling-rolling-rolling", "rotated-rotated-rotated-rotated"


def update(play: Play, tag: str, *arguments: str) -> Played:
    return play("update_worker", "-e", f"worker_tag={tag}", *arguments)


@contextmanager
def refused(worker: Worker, name: str) -> Iterator[None]:
    """Put a file there that no nginx accepts."""
    path = f"/opt/wearon/nginx/{name}"
    worker.host.check_output(f"echo broken > {path}")
    try:
        yield
    finally:
        worker.host.check_output(f"rm {path}")


def login(worker: Worker, password: str) -> str:
    """The answer of Redis to this password."""
    return str(worker.host.check_output(f"docker exec -e REDISCLI_AUTH={password} wearon-redis-1 redis-cli ping 2>&1"))


def test_release_goes_with_a_new_password_of_redis_from_host_to_host(
    play: Play, rolling: Worker, rolling2: Worker
) -> None:
    before = rolling.serving()
    broker = rolling.host.check_output("docker inspect -f '{{.State.StartedAt}}' wearon-redis-1")
    os.environ["ROLLING_PASSWORD"] = NEW
    run = play("site", "--tags", "redis,worker", "-e", "worker_tag=good-1")
    assert run.code == 0, run.text
    assert "PONG" in login(rolling, NEW)
    assert "WRONGPASS" in login(rolling, OLD)
    assert rolling.host.check_output("docker inspect -f '{{.State.StartedAt}}' wearon-redis-1") == broker
    for worker in (rolling, rolling2):
        log = worker.host.check_output("docker ps -q --filter name=worker | xargs -n 1 docker logs 2>&1")
        assert not re.search("WRONGPASS|NOAUTH|invalid username-password", log)
    for worker in (rolling, rolling2):
        worker.is_settled("good-1")
        newest = worker.history()[0]
        assert (newest["tag"], newest["commit"], newest["result"]) == ("good-1", "good-1", "good")
    assert rolling.serving() != before


@pytest.mark.parametrize(
    ("tag", "arguments", "sentence"),
    [
        ("never-healthy", (*ONE, "-e", "worker_start_timeout_seconds=10"), "it did not become healthy"),
        ("bad-doctor", (), "its doctor found a fault: fail redis: made to fail"),
        ("crashing", ONE, "it did not stay up after the switch"),
    ],
)
def test_bad_release_leaves_the_old_one_serving_and_comes_to_no_further_host(
    play: Play, rolling: Worker, rolling2: Worker, tag: str, arguments: tuple[str, ...], sentence: str
) -> None:
    before = rolling.serving()
    run = update(play, tag, *arguments)
    assert run.code != 0
    assert sentence in " ".join(run.text.split()), run.text
    rolling.is_settled("good-1")
    assert rolling.serving() == before
    assert rolling.history()[0]["result"].startswith(f"failed: {sentence}")
    logs = sorted((ROOT / "artifacts").glob("*-rolling.log"), key=lambda path: path.stat().st_mtime)
    assert logs[-1].name in run.text
    assert tag in logs[-1].read_text()
    assert rolling2.history()[0]["tag"] == "good-1"
    rolling2.is_settled("good-1")


def test_play_that_is_killed_anywhere_is_simply_run_again(
    play: Play, kill_at: Callable[..., None], rolling: Worker
) -> None:
    """Each run gets a little further than the one before. rolling2 goes on with the generations meanwhile.

    One worker becomes two.
    """
    arguments = ("update_worker", "-e", "worker_tag=quick", *TWICE)
    for task in ("Start the new colour", "Route the requests to", "Watch the new colour", "Drain and remove"):
        kill_at(task, *arguments)
    run = play(*arguments)
    assert run.code == 0, run.text
    rolling.is_settled("quick", replicas=2)
    assert rolling.history()[0]["tag"] == "quick"


def test_changed_setting_rolls(play: Play, rolling: Worker) -> None:
    before = rolling.serving()
    run = update(play, "quick", *TWICE, "-e", "worker_concurrency=31")
    assert run.code == 0, run.text
    assert (rolling.setting("WORKER_CONCURRENCY"), rolling.serving() != before) == ("31", True)
    rolling.is_settled("quick", replicas=2)


def test_rollback_needs_no_argument_and_no_registry(play: Play, rolling: Worker) -> None:
    rolling.host.check_output("echo 127.0.0.1 ghcr.io >> /etc/hosts")
    try:
        missing = update(play, "good-3", *ONE)
        assert (missing.code != 0, missing.changed) == (True, 0)
        assert "cannot be pulled" in missing.text
        assert "Nothing was changed" in missing.text
        run = play("rollback_worker", *TWICE)
    finally:
        rolling.host.check_output("sed '/ghcr.io/d' /etc/hosts > /tmp/hosts && cat /tmp/hosts > /etc/hosts")
    assert run.code == 0, run.text
    rolling.is_settled("good-1", replicas=2)
    assert ("quick", "rolled back") in [(one["tag"], one["result"]) for one in rolling.history()]


def test_nginx_that_refuses_to_follow_keeps_the_old_one_alone(play: Play, rolling: Worker) -> None:
    before = rolling.serving()
    with refused(rolling, "upstreams/worker/broken.conf"):
        run = update(play, "quick", *ONE)
    assert run.code != 0
    assert "nginx refused to follow" in " ".join(run.text.split()), run.text
    rolling.is_settled("good-1", replicas=2)
    assert rolling.serving() == before


def test_another_release_follows_although_a_new_configuration_of_nginx_is_refused(
    play: Play, rolling: Worker, rolling2: Worker
) -> None:
    with refused(rolling, "staged/http.d/broken.conf"):
        run = update(play, "good-2")
    assert run.code == 0, run.text
    rolling.is_settled("good-2")
    rolling2.is_settled("good-2")


def test_site_keeps_what_was_released(play: Play, rolling: Worker, rolling2: Worker) -> None:
    """The inventory still says `test`, which was the first release."""
    run = play("site", "--tags", "worker")
    assert run.code == 0, run.text
    assert (rolling.tag(), rolling2.tag()) == ("good-2", "good-2")


@pytest.mark.skipif("ROLLOUT_SOAK" not in os.environ, reason="a long soak: ROLLOUT_SOAK=<number of updates>")
@pytest.mark.timeout(7200)
def test_many_updates(play: Play, rolling: Worker) -> None:
    tags = ["good-2", "crashing", "good-3", "bad-doctor", "good-1"]
    for number in range(int(os.environ["ROLLOUT_SOAK"])):
        tag = tags[number % len(tags)]
        assert (update(play, tag, *ONE).code == 0) == tag.startswith("good")


def test_nothing_was_lost_meanwhile(load: Load, generations: Generations) -> None:
    generations.__exit__()
    seen = load.end()
    print(seen)
    assert sum(seen["requests"].values()) > 1000
    assert seen["failed"] == 0, seen
    assert len(generations.queued) > 10
    assert generations.wrong() == []


def test_artifacts_are_not_part_of_the_repository() -> None:
    assert "/artifacts/" in (ROOT / ".gitignore").read_text().split()
    assert Path(ROOT / "artifacts").is_dir()
