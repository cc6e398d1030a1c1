"""Around a rollout: lock, input, disk, maintenance, the other services."""

import json
import re
import time
from collections.abc import Callable

import pytest

from tests.molecule.hosts import Played, docker
from tests.molecule.update_worker.tests.conftest import NAME, Worker

Play = Callable[..., Played]
Curl = Callable[[str], str]
ONE = ("--limit", "rolling")
LOCK = "/opt/wearon/rollout.lock"


def flat(run: Played) -> str:
    return " ".join(run.text.split())


@pytest.fixture
def locked(rolling: Worker) -> None:
    """The lock of another play, of half an hour ago."""
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1900))
    ticket = {"host": "elsewhere", "machine": "1 2", "who": "alice", "play": "1 Mon", "when": then}
    ticket["why"] = "roll out v9"
    rolling.host.check_output(f"printf '%s' '{json.dumps(ticket)}' > {LOCK}")


@pytest.mark.usefixtures("locked")
def test_lock_of_somebody_else_is_respected_and_broken_on_request(play: Play, rolling: Worker) -> None:
    """The release serves already: a play that may run changes nothing."""
    tag, before = rolling.tag(), rolling.host.check_output("docker ps --quiet")
    refused = play("update_worker", "-e", f"worker_tag={tag}", *ONE)
    assert refused.code != 0
    assert "31 minutes, stale) by alice on elsewhere: roll out v9" in flat(refused)
    assert rolling.host.file(LOCK).exists
    broken = play("update_worker", "-e", f"worker_tag={tag}", *ONE, "-e", "break_lock=true")
    assert (broken.code, broken.changed) == (0, 0), broken.text
    assert not rolling.host.file(LOCK).exists
    assert rolling.host.check_output("docker ps --quiet") == before


def test_image_without_room_on_the_disk_is_refused_before_anything_changes(play: Play, rolling: Worker) -> None:
    before = rolling.tag()
    run = play("update_worker", "-e", "worker_tag=good-3", "-e", "worker_free_disk_megabytes=99999999", *ONE)
    assert run.code != 0
    assert run.changed == 0
    assert "MB are free where Docker keeps" in flat(run), run.text
    rolling.is_settled(before)


def test_unknown_release_is_no_way_back(play: Play) -> None:
    run = play("rollback_worker", "-e", "to=v0", *ONE)
    assert "The history knows no release v0" in flat(run)
    assert "good-1" in play("releases").text


def test_maintenance_closes_the_api_and_the_queue_until_it_is_ended(play: Play, curl: Curl, rolling: Worker) -> None:
    def intake() -> str:
        return str(json.loads(rolling.host.check_output(
            f"docker exec wearon-worker-{rolling.serving()}-1 python3 -m worker intake status --json"
        ))["intake_paused"])  # fmt: skip

    assert play("maintenance", "-e", "mode=sometimes").code != 0
    run = play("maintenance", "-e", "mode=on", "-e", "retry_after=120")
    assert run.code == 0, run.text
    answer = curl(f"-i https://{NAME}/health")
    assert answer.startswith("HTTP/2 503")
    assert "retry-after: 120" in answer
    assert "strict-transport-security" in answer
    assert curl(f"-o /dev/null -w '%{{http_code}}' http://{NAME}/.well-known/acme-challenge/x") == "404"
    rolling.host.check_output(f"docker restart wearon-redis-1 wearon-worker-{rolling.serving()}-1 wearon-nginx-1")
    rolling.await_healthy()
    assert intake() == "maintenance"
    assert curl(f"-o /dev/null -w '%{{http_code}}' https://{NAME}/health") == "503"
    assert play("maintenance", "-e", "mode=on", "-e", "retry_after=120").changed == 0
    assert play("maintenance", "-e", "mode=off").code == 0
    assert intake() == "None"
    assert curl(f"-o /dev/null -w '%{{http_code}}' https://{NAME}/health") == "200"


def test_second_host_uses_the_servers_redis_and_neighbours_do_not_reach_it(rolling: Worker, rolling2: Worker) -> None:
    auth = 'REDISCLI_AUTH=$(cut -d" " -f2 /run/secrets/redis.password.conf)'
    clients = rolling.host.check_output(f"docker exec wearon-redis-1 sh -c '{auth} redis-cli client list'")
    assert f"addr={rolling2.address()}:" in clients
    scan = docker("exec", "testbed-neighbour", "nmap", "-Pn", "-n", "-p", "443,6379", rolling.address())
    assert re.search(r"^443/tcp +open", scan, re.M)
    assert re.search(r"^6379/tcp +filtered", scan, re.M)


def test_services_are_updated_one_at_a_time_and_only_if_they_differ(play: Play, rolling: Worker) -> None:
    before = rolling.host.check_output("docker ps --quiet")
    assert play("update_services").code == 0
    assert rolling.host.check_output("docker ps --quiet") == before
    run = play("update_services", "-e", "redis_pids_limit=65")
    assert run.code == 0, run.text
    assert rolling.host.check_output("docker inspect -f '{{.HostConfig.PidsLimit}}' wearon-redis-1") == "65"
    assert play("update_services").code == 0


def test_image_that_does_not_start_gives_way_to_the_one_before(play: Play, rolling: Worker, curl: Curl) -> None:
    docker("tag", "testbed/python", "127.0.0.1:5000/library/redis:broken")
    docker("push", "--quiet", "127.0.0.1:5000/library/redis:broken")
    before = rolling.host.check_output("docker inspect -f '{{.Config.Image}}' wearon-redis-1")
    run = play(
        "update_services",
        "-e",
        "redis_tag=broken",
        "-e",
        "service=redis",
        "-e",
        "compose_wait_timeout_seconds=30",
    )
    assert run.code != 0
    assert "redis" in flat(run)
    assert rolling.host.check_output("docker inspect -f '{{.Config.Image}}' wearon-redis-1") == before
    assert play("update_services", "-e", "service=redis").code == 0
    assert '"redis_connected":true' in curl(f"https://{NAME}/health").replace(" ", "")
