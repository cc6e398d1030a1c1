"""A worker host as a rollout sees it: a folder, an engine that obeys, colours that answer.

`Host.roll_out` calls the programs in the order of roles/worker/tasks/rollout.yml. It can be killed before any step.
"""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parents[3] / "roles/worker/files/rollout"
sys.path.insert(0, str(PROGRAMS))
sys.dont_write_bytecode = True

import colour as new_colour  # noqa: E402
import drain  # noqa: E402
import gate  # noqa: E402
import host  # noqa: E402
import plan  # noqa: E402
import releases  # noqa: E402
import route  # noqa: E402

REPOSITORY = "registry/worker"


#: Where each replica of each colour answers.
PLACES = {
    f"{colour}{number}": {"address": f"{colour}{number}"} for number in ("", "-2") for colour in ("blue", "green")
}


def replica(container: str) -> str:
    return container.removeprefix("wearon-worker-").removesuffix("-1")


class Killed(BaseException):
    """The play has died here."""


@dataclass
class Container:
    image: str
    running: bool = True
    terms: int = 0
    exit_code: int = 0
    restarts: int = 0
    #: Ignores SIGTERM.
    hangs: bool = False


@dataclass
class Host:
    """One worker host, which is its own server."""

    folder: Path
    containers: dict[str, Container] = field(default_factory=dict)
    units: set[str] = field(default_factory=set)
    #: Tags whose worker is wrong, and how: doctor, crash, unhealthy.
    wrong: dict[str, str] = field(default_factory=dict)
    #: Replicas of each colour that the inventory wants (worker_replicas).
    replicas: int = 1
    logs: str = ""
    #: Steps until the play dies; each call of a program of the host and each written file is one.
    steps_left: int | None = None
    steps: int = 0
    nginx: str = ""
    #: What a request through nginx met, each time that nginx was told: colours that answered.
    served: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("compose.d", "secrets", "worker/blue", "worker/green", "nginx"):
            (self.folder / name).mkdir(parents=True)
        self.upstream.write_text("server blue:8000; # blue\n")  # tasks/routing.yml
        self.nginx = self.upstream.read_text()

    # --- the play

    def job(self, **changes: Any) -> host.Job:
        services = {
            f"worker-{name}": {"image": "", "secrets": [{"source": f"worker-{colour}.key", "target": "key"}]}
            for colour in ("blue", "green")
            for name in self.names(colour)
        }
        return {
            "host": "here", "project": "wearon", "folder": str(self.folder), "secrets": str(self.folder / "secrets"),
            "fragment": str(self.folder / "compose.d/worker.yml"), "repository": REPOSITORY, "services": services,
            "colours": PLACES, "photo": "",
            "free_megabytes": 10, "start_seconds": 2, "watch_seconds": 2, "drain_seconds": 310, "check": False,
            "asked": "", "tag": "v1", "back": False, "first": "", "image": {}, "plan": {}, "colour": "", "quiet": "",
            "failure": "", "switched": 0,
            "cosign": {"image": "cosign:v3", "key": "", "identity": "", "issuer": "github"},
            "upstream": self.record(), **changes,
        }  # fmt: skip

    def record(self, name: str = "here", others: tuple[str, ...] = ()) -> str:
        """Return the record of a host of this name, the server; the others have private addresses."""
        workers = {name: "", **{other: f"10.0.0.{number}" for number, other in enumerate(others, 2)}}
        job = {"host": name, "path": str(self.upstream.with_stem(name)), "server": name, "workers": workers}
        return route.serving({**job, "colours": PLACES, "check": False})

    def names(self, colour: str) -> list[str]:
        """Return the names of the replicas that are wanted of a colour."""
        return [colour, *(f"{colour}-{number}" for number in range(2, self.replicas + 1))]

    @property
    def upstream(self) -> Path:
        return self.folder / "nginx/here.conf"

    def plan(self, **changes: Any) -> dict[str, Any]:
        return plan.plan(self.job(**changes))

    def route(self, colour: str, behind: str = "", quiet: str = "") -> None:
        lines = [f"server {name}:8000; # {colour}" for name in self.names(colour)]
        lines += [f"server {name}:8000 backup; # {behind}" for name in self.names(behind)] if behind else []
        text = "\n".join(lines) + "\n"
        route.route(self.job(path=str(self.upstream), upstream=text, quiet=quiet))

    def drain(self, colour: str) -> str:
        job = self.job(colour=colour)
        while (answer := drain.drain(job))["running"]:
            pass
        return str(answer["sentence"])

    def roll_out(self, tag: str = "", *, die_at: int | None = None, **changes: Any) -> str:
        """Run the play; return the sentence it fails with, or nothing."""
        self.steps_left, self.steps = die_at, 0
        time.sleep(60)
        changes = {"asked": tag, **changes}
        decision = self.plan(**changes)
        if decision["wanted"]:
            changes["image"] = releases.fetch(self.job(plan=decision))
        if decision["unfinished"]:
            settled = gate.settle(self.job(plan=decision))
            self.route(settled["stays"], quiet="after")
            self.drain(settled["leaves"])
        decision = self.plan(**changes)
        job = self.job(**changes, plan=decision)
        if decision["rolls"]:
            try:
                self._replace(decision, job)
            except SystemExit as failure:
                return self._abandon(decision, {**job, "failure": str(failure)})
            if decision["old"]:
                self.route(decision["new"], quiet="before")
                self.drain(decision["old"])
        else:
            self.write_secrets(decision["new"])
            gate.check(job)
        releases.record(job)
        self.steps_left = None
        return ""

    def _replace(self, decision: dict[str, Any], job: host.Job) -> None:
        self.write_secrets(decision["new"])
        new_colour.start(job)
        gate.gate(job)
        (self.folder / "worker" / decision["new"] / "hold").unlink(missing_ok=True)
        self.route(decision["new"], decision["old"])
        gate.watch(job)

    def write_secrets(self, colour: str) -> None:
        secrets = str(self.folder / "secrets")
        new_colour.write_secrets({"secrets": secrets, "colour": colour, "uid": 0, "values": {"key": "secret"}})

    def _abandon(self, decision: dict[str, Any], job: host.Job) -> str:
        if decision["old"] and not (self.folder / "worker" / decision["new"] / "hold").exists():
            self.route(decision["old"], quiet="after")
        sentence = new_colour.abandon(job)["sentence"]
        self.drain(decision["new"])
        self.steps_left = None
        return sentence

    # --- what there is afterwards

    def serving(self) -> str:
        return plan.read_upstream(self.job())[0]

    def tag(self) -> str:
        return releases.tag(self.containers[self.serving()].image)

    def releases(self) -> list[tuple[str, str]]:
        return [(one["tag"], one["result"].partition(":")[0]) for one in releases.load(self.job())["releases"]]

    def assert_settled(self, tag: str) -> None:
        """One colour runs, serves and takes messages, no file is left over, and nginx follows."""
        assert self.tag() == tag
        assert list(self.containers) == self.names(self.serving())
        assert all(one.running for one in self.containers.values())
        assert not list(self.folder.glob("worker/*/*"))
        assert {path.name for path in (self.folder / "secrets").iterdir()} == {f"worker-{self.serving()}.key"}
        assert self.nginx == self.upstream.read_text()
        assert "backup" not in self.nginx
        assert not list(self.folder.rglob("*.new"))

    # --- the programs of the host

    def step(self) -> None:
        self.steps += 1
        if self.steps_left is not None and self.steps > self.steps_left:
            raise Killed

    def run(self, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        self.step()
        code, out, error = self._answer(list(command), seconds)
        return subprocess.CompletedProcess(command, code, out, error)

    def _answer(self, command: list[str], seconds: float) -> tuple[int, str, str]:
        match command:
            case [_, "--reload"]:
                self.nginx = self.upstream.read_text()
                self.served.append(any(self._answers(one) for one in self.containers if one in self.nginx))
            case ["df", *_]:
                return 0, "Avail\n5000\n", ""
            case ["systemctl", verb, *_, unit]:
                self.units -= {unit} if verb == "stop" else set()
                return (0 if unit in self.units else 3), "", ""
            case ["systemd-run", *_, unit, _, _, "end", name, limit, drains]:
                drain.end(name, limit, drains)
                self.units.discard(unit)
            case ["docker", *arguments]:
                return self._docker(arguments, seconds)
        return 0, "", ""

    def _docker(self, arguments: list[str], seconds: float) -> tuple[int, str, str]:  # noqa: PLR0911, PLR0912
        one = self.containers.get(replica(arguments[-1])) if arguments[-1].startswith("wearon-worker-") else None
        match arguments:
            case ["info", *_]:
                return 0, "/var/lib/docker\n", ""
            case ["image", "inspect", _]:
                return 1, "", "No such image"
            case ["inspect", "--format", what, _]:
                if not one:
                    return 1, "", "Error: No such object"
                if "Health" not in what:
                    return 0, f"{str(one.running).lower()}\n", ""
                health = "unhealthy" if self.wrong.get(releases.tag(one.image)) == "unhealthy" else "healthy"
                state = "running" if one.running else "exited"
                return 0, f"{state} {health} T/{one.restarts} {one.exit_code}\n", ""
            case ["inspect", *names] if names[0].startswith("wearon-worker-"):
                found = [self._inspected(replica(name)) for name in names if replica(name) in self.containers]
                complete = len(found) == len(names)
                return int(not complete), json.dumps(found), "" if complete else "Error: No such object"
            case ["inspect", *names]:
                tags = [releases.tag(name) for name in names]
                images = [{"Id": f"id-{tag}", "RepoDigests": [f"{REPOSITORY}@sha256:{tag}"]} for tag in tags]
                return 0, json.dumps(images), ""
            case ["compose", *_, "config", "--no-consistency", _, _, _, _, _]:
                return 1, "", "yaml: line 1"
            case ["compose", *words]:
                recipes = plan.read_recipes(self.job())
                for service in words[words.index("never") + 1 :]:
                    self.containers[service.removeprefix("worker-")] = Container(recipes[service]["image"])
            case ["exec", name, *_]:
                fails = self.wrong.get(releases.tag(self.containers[replica(name)].image)) == "doctor"
                return int(fails), "fail  redis: away\n" if fails else "ok\n", ""
            case ["kill", "--signal", "SIGTERM", _] if one:
                self._term(one)
            case ["wait", _] if one and one.running:
                time.sleep(seconds)
                return 124, "", "timed out"
            case ["stop", *_] if one:
                self._term(one)
                if one.running:
                    one.running, one.exit_code = False, 137
            case ["rm", "--force", name]:
                self.containers.pop(replica(name), None)
            case ["logs", *_]:
                return 0, self.logs, ""
        return 0, "", ""

    def _inspected(self, colour: str) -> dict[str, Any]:
        one = self.containers[colour]
        return {
            "Name": f"/wearon-worker-{colour}-1", "Id": f"c-{colour}", "Image": f"id-{releases.tag(one.image)}",
            "State": {"Running": one.running, "StartedAt": "T", "ExitCode": one.exit_code},
            "Config": {"Image": one.image, "StopTimeout": 350},
        }  # fmt: skip

    def _term(self, one: Container) -> None:
        one.terms += 1
        if not one.hangs:
            one.running = False

    def _answers(self, colour: str) -> bool:
        one = self.containers.get(colour)
        return bool(one and one.running and self.wrong.get(releases.tag(one.image)) != "crash")

    def ask(self, url: str, body: dict[str, object] | None = None, seconds: float = 5) -> tuple[int, str]:
        colour = url.removeprefix("http://").partition(":")[0]
        one = self.containers.get(colour)
        if one is None or not one.running:
            return 0, "connection refused"
        if self.wrong.get(releases.tag(one.image)) == "crash" and f"server {colour}:8000;" in self.nginx:
            one.restarts += 1
        if url.endswith("/estimate-body"):
            return 400, "refused"
        health = {"state": "draining" if one.terms else "ready", "model_loaded": True, "redis_connected": True}
        return 200, json.dumps({**health, "parts": {"celery": {"active": 2}}})


class Clock:
    """Waiting takes no time."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(time, "time", lambda: clock.now)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def new_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Callable[[], Host]:
    """Make another host, which replaces the one before."""
    number = iter(range(1000))
    write = host.write

    def make() -> Host:
        one = Host(tmp_path / str(next(number)))

        def written(path: str | Path, text: str, mode: int = 0o644, owner: int = 0) -> bool:
            one.step()
            return write(path, text, mode, owner)

        monkeypatch.setattr(host, "write", written)
        monkeypatch.setattr(host, "run", one.run)
        monkeypatch.setattr(host, "ask", one.ask)
        return one

    return make


@pytest.fixture
def here(new_host: Callable[[], Host]) -> Host:
    """A host on which v1 serves."""
    one = new_host()
    assert one.roll_out("v1") == ""
    return one


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """While the fixture is entered, no file can be written."""

    @contextmanager
    def full() -> Iterator[None]:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            yield

    return full()
