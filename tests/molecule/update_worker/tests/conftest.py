"""The surroundings of this scenario's tests: releases good and bad, load, generations, a look at a host."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from tests.molecule.hosts import ROOT, SCENARIO, StackRedis, docker
from tests.sandbox.database import Database
from tests.sandbox.producer import Producer, Queued
from tests.sandbox.records import Records
from tests.sandbox.remote import OpenAIRemote

NAME = "rollout.example.test"
BASE = "ghcr.io/wearon/wearon-worker:test"
REPOSITORY = "127.0.0.1:5000/wearon/wearon-worker"
#: Every generation is told apart from those of other scenarios by this.
MARKER = "rolling"
#: Releases of the real worker, and stand-ins that start at once, by what is wrong with them.
REAL = ("good-1", "good-2", "good-3")
QUICK = {"quick": "", "never-healthy": "unhealthy", "bad-doctor": "doctor", "crashing": "crash"}


@pytest.fixture(scope="session", autouse=True)
def releases() -> None:
    """All of them in the test registry."""
    for tag in REAL:
        subprocess.run(
            ["docker", "build", "--quiet", "--tag", f"{REPOSITORY}:{tag}", "-"],
            input=f"FROM {BASE}\nLABEL org.opencontainers.image.revision={tag}\n".encode(),
            check=True,
            capture_output=True,
            timeout=300,
        )
        docker("push", "--quiet", f"{REPOSITORY}:{tag}")
    for tag, wrong in QUICK.items():
        image = f"{REPOSITORY}:{tag}"
        docker("build", "--quiet", "--build-arg", f"WRONG={wrong}", "--tag", image, str(SCENARIO / "standin"))
        docker("push", "--quiet", image)


@dataclass
class Worker:
    """One worker host, as it is."""

    name: str

    @property
    def host(self) -> Host:
        return testinfra.get_host(f"docker://{self.name}")

    def address(self) -> str:
        return docker("inspect", "-f", "{{.NetworkSettings.Networks.testbed.IPAddress}}", self.name)

    def replicas(self) -> list[str]:
        """The replicas of both colours whose containers are there, running or not: blue, blue-2, ..."""
        names = self.host.check_output("docker ps --all --format '{{.Names}}'").split()
        found = (name.removeprefix("wearon-worker-") for name in names if name.startswith("wearon-worker-"))
        return sorted(name.removesuffix("-1") for name in found)

    def servers(self) -> list[str]:
        """The addresses that nginx knows of this host."""
        text = docker("exec", "rolling", "cat", f"/opt/wearon/nginx/upstreams/worker/{self.name}.conf")
        return re.findall(r"^server (\S+)", text, re.M)

    def serving(self) -> str:
        """The colour that the upstream file names alone."""
        text = docker("exec", "rolling", "cat", f"/opt/wearon/nginx/upstreams/worker/{self.name}.conf")
        assert "backup" not in text
        return str(re.findall(r"# (\w+)", text)[0])

    def tag(self) -> str:
        """The tag of the release that serves."""
        image = self.host.check_output(f"docker inspect -f '{{{{.Config.Image}}}}' wearon-worker-{self.serving()}-1")
        return re.sub(r"^.*:([^:@]+)@sha256:[0-9a-f]{64}$", r"\1", str(image))

    def history(self) -> list[dict[str, str]]:
        return list(json.loads(self.host.check_output("cat /opt/wearon/worker/releases.json"))["releases"])

    def setting(self, name: str) -> str:
        return str(self.host.check_output(f"docker exec wearon-worker-{self.serving()}-1 printenv {name}"))

    def await_healthy(self) -> None:
        """Return when the colour that serves is healthy."""
        asked = f"docker inspect -f '{{{{.State.Health.Status}}}}' wearon-worker-{self.serving()}-1"
        deadline = time.monotonic() + 120
        while self.host.run(asked).stdout.strip() != "healthy":
            assert time.monotonic() < deadline, "the worker did not become healthy"
            time.sleep(0.5)

    def is_settled(self, tag: str, replicas: int = 1) -> None:
        """Return True if one colour runs, serves with all replicas, has no hold, and the lock is free."""
        assert self.tag() == tag
        assert self.replicas() == [self.serving(), f"{self.serving()}-2"][:replicas]
        assert len(self.servers()) == replicas
        assert self.host.run("find /opt/wearon/worker -name hold").stdout == ""
        assert docker("exec", "rolling", "sh", "-c", "ls /opt/wearon/*.lock 2>/dev/null || true") == ""


@pytest.fixture(scope="session")
def rolling() -> Worker:
    return Worker("rolling")


@pytest.fixture(scope="session")
def rolling2() -> Worker:
    return Worker("rolling2")


@dataclass
class Generations:
    """Try-ons that are queued all the time, so that two or three are in flight: each takes ten seconds."""

    records: Records
    producer: Producer
    every_seconds: float
    queued: list[Queued] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Generations":
        self._thread = threading.Thread(target=self._queue)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _queue(self) -> None:
        while not self._end.wait(self.every_seconds):
            make = self.producer.b2b if len(self.queued) % 2 else self.producer.b2c
            self.queued.append(make(prompt=f"{MARKER} {len(self.queued)}"))

    def wrong(self) -> list[str]:
        """Deviations from the rule: each session completed, each paid for once."""
        found = []
        for one in self.queued:
            row = self.records.settled(one.channel, one.session_id, timeout=180)
            changes = self.records.balance_changes(one.owner_id)
            if row["status"] != "completed" or changes[1:] != [-1]:
                found.append(f"{one.session_id} {row['status']} {row['error_message']} {changes}")
        return found


@pytest.fixture(scope="module")
def generations(sandbox: dict[str, str], rolling: Worker) -> Iterator[Generations]:
    openai = OpenAIRemote(sandbox["openai_url"].removesuffix("/v1"))
    slow = openai.fault("slow", contains=MARKER, delay=10)
    photos = [f"{sandbox['photos_url']}/{name}.jpg" for name in ("person", "garment")]
    with Database(sandbox["database_url"]) as database:
        records = Records()
        records.database = database
        with Generations(records, Producer(database, StackRedis(rolling.host), photos), 4) as running:  # type: ignore[arg-type]
            yield running
    openai.clear(slow)


class Load:
    """Requests from the neighbour, all the time; see load.py."""

    def __init__(self, photo: str) -> None:
        rate = os.environ.get("ROLLOUT_LOAD", "25")
        docker("cp", str(SCENARIO / "load.py"), "testbed-neighbour:/tmp/rollout-load.py")
        self._process = subprocess.Popen(
            ["docker", "exec", "-i", "testbed-neighbour", "python3", "/tmp/rollout-load.py", NAME, rate, photo],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> dict[str, Any]:
        """Stop the load. Return what it saw."""
        output, _ = self._process.communicate("", timeout=120)
        return dict(json.loads(output))


@pytest.fixture(scope="module")
def load(sandbox: dict[str, str]) -> Iterator[Load]:
    running = Load(f"{sandbox['photos_url']}/body.jpg")
    time.sleep(2)
    yield running
    running._process.kill()


@pytest.fixture(scope="session")
def kill_at() -> Callable[..., None]:
    """Start a playbook and kill it, without any chance to clean up, when it comes to a task."""

    def run(task: str, name: str, *arguments: str) -> None:
        inventories = [f"--inventory={SCENARIO / 'inventory'}", f"--inventory={ROOT / 'tests/testbed/inventory'}"]
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *inventories,
                f"playbooks/{name}.yml",
                *arguments,
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_HOST_KEY_CHECKING": "false",
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",  # Molecule may set it, and it is stronger
                "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        said: list[str] = []
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            if line.startswith(f"TASK [worker : {task}"):
                break
        else:
            pytest.fail(f"{name} never came to {task}:\n{''.join(said[-60:])}")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    return run
