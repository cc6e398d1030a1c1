"""Images stay as the host got them first: pin_images.py, with an engine whose registry moves its tags."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.roles.conftest import ROOT

#: Knows tags and digests of a registry and of this machine; refuses what the engine refuses.
ENGINE = """#!/usr/bin/env python3
import json, pathlib, sys
path = pathlib.Path(__file__).with_name("state.json")
state = json.loads(path.read_text())
local, registry, words = state["local"], state["registry"], sys.argv[1:]
name = words[-1]
tag, _, digest = name.partition("@")
if words[0] == "pull":
    state["pulls"].append(name)
    if state["away"] or (digest or registry.get(tag)) is None:
        sys.exit("registry is away")
    digest = digest or registry[tag]
    repository = tag.rpartition(":")[0].removeprefix("docker.io/")
    local["images"][digest] = repository
    if "@" not in name:
        local["tags"][tag] = digest
elif words[0] == "tag":
    local["tags"][name] = words[1].removeprefix("id-")
else:
    digest = digest or local["tags"].get(tag, "")
    if digest not in local["images"]:
        sys.exit("No such image")
    repository = local["images"][digest]
    print(json.dumps([{"Id": f"id-{digest}", "RepoDigests": [f"{repository}@{digest}"] if repository else []}]))
path.write_text(json.dumps(state))
"""


class Machine:
    """A host with the engine; `registry` says which digest a tag has there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._state = folder, folder / "programs/state.json"
        (folder / "programs").mkdir()
        (folder / "programs/docker").write_text(ENGINE)
        (folder / "programs/docker").chmod(0o755)
        self.set(registry={}, local={"tags": {}, "images": {}}, pulls=[], away=False)

    def set(self, **changed: object) -> None:
        known = json.loads(self._state.read_text()) if self._state.exists() else {}
        self._state.write_text(json.dumps({**known, **changed}))

    def state(self, name: str) -> object:
        return json.loads(self._state.read_text())[name]

    def run(self, *images: str, follow: bool = False, check: bool = False) -> subprocess.CompletedProcess[str]:
        wanted = {f"role{number}": {"service": image} for number, image in enumerate(images)}
        job = {"folder": str(self.folder / "pins.d"), "images": wanted, "follow": follow, "check": check}
        return subprocess.run(
            [sys.executable, "-c", (ROOT / "roles/compose/files/pin_images.py").read_text()],
            input=json.dumps(job),
            env={**os.environ, "PATH": f"{self.folder / 'programs'}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )

    def pins(self) -> list[str]:
        files = sorted((self.folder / "pins.d").glob("*"))
        return [json.loads(path.read_text())["services"]["service"]["image"] for path in files]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.set(registry={"redis:7": "sha256:a", "prom/prometheus:v3": "sha256:p"})
    return machine


def test_first_pull_is_pinned_and_a_second_run_changes_nothing(machine: Machine) -> None:
    first, second = (json.loads(machine.run("redis:7", "prom/prometheus:v3").stdout) for _ in range(2))
    assert machine.pins() == ["redis:7@sha256:a", "prom/prometheus:v3@sha256:p"] == sorted(first["new"], reverse=True)
    assert second == {"pinned": ["role0", "role1"], "new": []}
    assert machine.state("pulls") == ["redis:7", "prom/prometheus:v3"]


def test_moved_tag_changes_nothing_even_after_the_image_was_removed_or_pulled_by_hand(machine: Machine) -> None:
    machine.run("redis:7")
    machine.set(registry={"redis:7": "sha256:moved"}, local={"tags": {}, "images": {}})
    assert json.loads(machine.run("redis:7").stdout)["new"] == []
    assert machine.state("pulls") == ["redis:7", "redis:7@sha256:a"]
    images = {"sha256:a": "redis", "sha256:moved": "redis"}
    machine.set(local={"tags": {"redis:7": "sha256:moved"}, "images": images})
    machine.run("redis:7")
    assert machine.pins() == ["redis:7@sha256:a"]
    assert machine.state("local") == {"tags": {"redis:7": "sha256:a"}, "images": images}


def test_another_tag_or_a_digest_in_the_inventory_is_taken(machine: Machine) -> None:
    machine.run("redis:7")
    machine.set(registry={"redis:8": "sha256:b"})
    machine.run("redis:8")
    assert machine.pins() == ["redis:8@sha256:b"]
    machine.run("redis:8@sha256:c")
    assert machine.pins() == ["redis:8@sha256:c"]


def test_role_that_left_leaves_no_pin(machine: Machine) -> None:
    machine.run("redis:7", "prom/prometheus:v3")
    machine.run("redis:7")
    assert machine.pins() == ["redis:7@sha256:a"]


def test_pull_policy_always_follows_the_tag(machine: Machine) -> None:
    machine.run("redis:7")
    machine.set(registry={"redis:7": "sha256:moved"})
    assert json.loads(machine.run("redis:7", follow=True).stdout)["new"] == ["redis:7@sha256:moved"]


def test_image_that_was_built_here_has_no_digest(machine: Machine) -> None:
    machine.set(local={"tags": {"own:1": "sha256:o"}, "images": {"sha256:o": ""}})
    machine.run("own:1")
    assert machine.pins() == ["own:1"]


@pytest.mark.parametrize("image", ["docker.io/redis:7", "docker.io/library/redis:7", "ghcr.io:443/a/b:1"])
def test_every_spelling_of_a_repository_is_understood(machine: Machine, image: str) -> None:
    name = image.rpartition(":")[0].removeprefix("docker.io/").removeprefix("library/")
    machine.set(local={"tags": {image: "sha256:a"}, "images": {"sha256:a": name}})
    machine.run(image)
    assert machine.pins() == [f"{image}@sha256:a"]


def test_registry_that_is_away_stops_nothing_and_leaves_the_record(machine: Machine) -> None:
    machine.run("redis:7")
    machine.set(away=True)
    run = machine.run("redis:7", "nginx:1")
    assert run.returncode == 1
    assert run.stderr == "nginx:1 cannot be pulled: registry is away. No service was changed\n"
    assert machine.pins() == ["redis:7@sha256:a"]


def test_check_pulls_and_writes_nothing(machine: Machine) -> None:
    run = machine.run("redis:7", check=True)
    assert json.loads(run.stdout) == {"pinned": [], "new": []}
    assert not (machine.folder / "pins.d").exists()


def test_record_that_is_broken_is_made_anew(machine: Machine) -> None:
    machine.run("redis:7")
    (machine.folder / "pins.d/role0.yml").write_text("{")
    machine.run("redis:7")
    assert machine.pins() == ["redis:7@sha256:a"]
