"""The rendered stack on this machine's engine: a project of its own, with the folders that the roles make on a host."""

import base64
import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

PROJECT = "wearon-real"
#: nginx wants a certificate and a worker, the bridge a phone: both are real in the scenarios of Molecule.
SERVICES = ["redis", "redis-exporter", "celery-exporter", "prometheus", "node-exporter", "loki", "alloy", "grafana"]
PASSWORD = "dummy-dummy-dummy-dummy-dummy"
SECRETS = {
    "redis.password.conf": f"requirepass {PASSWORD}\n",
    "redis-exporter.passwords.json": json.dumps({"redis://redis:6379": PASSWORD}),
    "celery-exporter.broker_url": f"redis://default:{PASSWORD}@redis:6379/0",
}


def docker(*words: str | Path, check: bool = True) -> str:
    """Return what a command of the engine prints."""
    command = ["docker", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def kind(image: str) -> str:
    """Tell what an image is: `image` if it was pulled; `package` or `stand-in` if tests/testbed has built it."""
    inspected = docker("image", "inspect", image, check=False)
    if inspected in {"", "[]"}:
        return "missing"
    (found,) = json.loads(inspected)
    if any(digest.startswith(f"{image.rpartition(':')[0]}@") for digest in found["RepoDigests"] or []):
        return "image"
    return str((found["Config"]["Labels"] or {}).get("testbed", "unknown"))


class Stack:
    """The running containers of the project, and ways to ask them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._compose = ("compose", "--file", folder / "docker-compose.prod.yml")
        self.project: dict[str, Any] = json.loads(docker(*self._compose, "config", "--format", "json"))
        self.services: dict[str, dict[str, Any]] = self.project["services"]
        self.kinds = {service: kind(self.services[service]["image"]) for service in SERVICES}
        if not re.search(r" / / \S+ .*\b(shared|master):", Path("/proc/1/mountinfo").read_text()):
            self.kinds["node-exporter"] = "unmountable"
        self.here = [service for service, what in self.kinds.items() if what not in {"missing", "unmountable"}]

    def up(self) -> None:
        """Start what there is an image of, and wait until all of it is healthy."""
        for service in self.here:
            self._prepare(service)
        for service in {"prometheus", "grafana"} & set(self.here):
            self.script(f"activate-{service}")
        try:
            docker(*self._compose, "up", "--detach", "--pull", "never", "--no-deps", "--wait", *self.here)
        except BaseException:
            self.script("explain-stack")
            raise
        self.script("list-logs")

    def down(self) -> None:
        docker(*self._compose, "down", "--volumes", "--timeout", "5", check=False)

    def _prepare(self, service: str) -> None:
        """Make the folders and secrets of a service, with its own user as their owner."""
        user, _, group = self.services[service]["user"].partition(":")
        for volume in self.services[service].get("volumes", []):
            path = Path(volume["source"])
            if path.is_relative_to(self.folder):
                path.mkdir(parents=True, exist_ok=True)
                if not volume.get("read_only"):
                    os.chown(path, int(user), int(group))
        for secret in self.services[service].get("secrets", []):
            self._write(Path(self.project["secrets"][secret["source"]]["file"]), int(user))
        if service == "redis":
            self._write(self.folder / "secrets/redis/redis.password.conf", int(user))

    def _write(self, path: Path, owner: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRETS.get(path.name, PASSWORD))
        path.chmod(0o400)
        os.chown(path, owner, 0)

    def script(self, name: str, *words: str | Path) -> None:
        """Run a script that a role brings to the host; what it says is in the report of a failed test."""
        command = ["sh", self.folder / "bin" / name, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        print(name, done.stdout, done.stderr)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine knows about the container of a service."""
        (found,) = json.loads(docker("inspect", f"{PROJECT}-{service}-1"))
        return dict(found)

    def get(self, service: str, path: str, port: int, login: str = "") -> Any:
        """Return the answer of a service, decoded where it is JSON."""
        (network,) = self.container(service)["NetworkSettings"]["Networks"].keys() & {f"{PROJECT}_default"}
        address = self.container(service)["NetworkSettings"]["Networks"][network]["IPAddress"]
        request = urllib.request.Request(f"http://{address}:{port}{path}")
        if login:
            request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read().decode()
        return json.loads(text) if text[:1] in "[{" else text

    def wait(self, what: str, look: Any, limit: float = 120) -> Any:
        """Return the first true answer."""
        end, last = monotonic() + limit, ""
        while monotonic() < end:
            try:
                if answer := look():
                    return answer
            except OSError as error:
                last = str(error)
            sleep(0.5)
        pytest.fail(f"not within {limit} seconds: {what} {last}")

    def wait_healthy(self, service: str) -> None:
        self.wait(f"{service} is healthy", lambda: self.container(service)["State"]["Health"]["Status"] == "healthy")
