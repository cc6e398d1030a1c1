"""Hosts as operators really have them: what the roles mend, and what they name before anything changes."""

import fcntl
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.roles.conftest import ROOT, program

DOCKER = "https://download.docker.com/linux/debian"
OURS = f"Types: deb\nURIs: {DOCKER}\nSuites: bookworm\nComponents: stable\nSigned-By: /etc/apt/keyrings/docker.asc\n"


def write(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(role: str, *arguments: object, name: str = "surroundings") -> str:
    """Run the program as the role's task does, from standard input."""
    command = [sys.executable, "-", *(str(argument) for argument in arguments)]
    text = (ROOT / f"roles/{role}/files/{name}.py").read_text()
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


# --- Docker's repository in other files

LINE = f"deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.gpg] {DOCKER} bookworm stable"


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("sources.list.d/docker.list", f"{LINE}\n", ""),
        ("sources.list.d/docker.list", f"deb {DOCKER}/ bookworm stable\n", ""),
        ("sources.list.d/archive.list", f"deb http://mirror.test/ bookworm main\n{LINE}", "http://mirror.test"),
        (
            "sources.list.d/x.list",
            "  deb   [ arch=amd64 ]   https://Download.docker.com/linux/debian bookworm stable",
            "",
        ),
        ("sources.list.d/x.list", f"deb-src {DOCKER.replace('https', 'http')} bookworm stable\n", ""),
        ("sources.list", f"{LINE}\ndeb http://mirror.test/ bookworm main\n", "http://mirror.test"),
        ("sources.list.d/download_docker_com.sources", OURS.replace(".asc", ".gpg"), ""),
        ("sources.list.d/x.sources", f"# a\n{OURS.replace('.asc', '.gpg')}", ""),
        ("sources.list.d/x.sources", f"types: deb\nuris:\n {DOCKER}/\nsuites: bookworm\ncomponents: stable\n", ""),
        (
            "sources.list.d/x.sources",
            f"{OURS.replace('.asc', '.gpg')}\nTypes: deb\nURIs: http://mirror.test\nSuites: a\nComponents: main\n",
            "http://mirror.test",
        ),
        (
            "sources.list.d/x.sources",
            f"Types: deb\nURIs: http://mirror.test {DOCKER}\nSuites: bookworm\nComponents: stable\n",
            "http://mirror.test",
        ),
    ],
)
def test_repository_of_docker_stays_in_one_file(tmp_path: Path, name: str, text: str, left: str) -> None:
    write(tmp_path, "etc/apt/sources.list")
    ours = write(tmp_path, "etc/apt/sources.list.d/docker.sources", OURS)
    path = write(tmp_path, f"etc/apt/{name}", text)
    assert run("docker", tmp_path, DOCKER, "docker.sources", True, name="other_sources") == f"{path}\n"
    assert path.read_text() == text, "a check changes nothing"
    assert run("docker", tmp_path, DOCKER, "docker.sources", False, name="other_sources") == f"{path}\n"
    assert run("docker", tmp_path, DOCKER, "docker.sources", False, name="other_sources") == ""
    assert ours.read_text() == OURS
    assert indexes(tmp_path) == sorted({DOCKER, left} - {""})


def indexes(root: Path) -> list[str]:
    """Repositories that apt reads: as the text says, and by apt itself where there is one."""
    texts = [path.read_text() for path in (root / "etc/apt").rglob("*") if path.is_file()]
    lines = [line for text in texts for line in text.splitlines() if not line.startswith("#")]
    written = sorted({word.rstrip("/") for line in lines for word in line.split() if "://" in word})
    if shutil.which("apt-get"):
        for folder in ("var/lib/apt/lists/partial", "var/lib/dpkg", "var/cache/apt/archives/partial"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        options = ["-o", f"Dir={root}", "-o", f"Dir::State::status={write(root, 'var/lib/dpkg/status')}"]
        asked = subprocess.run(
            ["apt-get", *options, "update", "--print-uris"], capture_output=True, text=True, check=False
        )
        assert asked.returncode == 0, asked.stderr
        assert {uri.split("/dists")[0] for uri in re.findall(r"^'(\S+)'", asked.stdout, re.M)} == set(written)
    return written


def test_files_without_docker_stay_as_they_are(tmp_path: Path) -> None:
    texts = {
        "debian.sources": "Types: deb\nURIs: http://mirror.test\n\n\n# note\nSuites: a\n",
        "mirror.list": f"# {LINE}\ndeb https://mirror.test/docker-ce/linux/debian bookworm stable\n",
        "other.list": "deb https://download.docker.com/linux/ubuntu noble stable\n",
        "docker.list.save": LINE,
    }
    for name, text in texts.items():
        write(tmp_path, f"etc/apt/sources.list.d/{name}", text)
    assert run("docker", tmp_path, DOCKER, "docker.sources", False, name="other_sources") == ""
    assert {path.name: path.read_text() for path in (tmp_path / "etc/apt/sources.list.d").iterdir()} == texts


# --- another engine

PACKAGES = [["docker-ce", "docker-ce-cli"], ["log-driver"]]


@pytest.mark.parametrize(
    ("there", "asked", "sentence"),
    [
        ({}, PACKAGES, ""),
        ({"docker-ce": "5:28"}, PACKAGES, ""),
        ({"docker.io": "26", "containerd": "1"}, PACKAGES, "Docker's packages replace docker.io, containerd"),
        ({"docker.io": "26"}, [["docker.io"], []], ""),
        ({"podman-docker": "5"}, PACKAGES, "sudo apt-get remove podman-docker"),
    ],
)
def test_engine_of_another_source_is_named(tmp_path: Path, there: dict[str, str], asked: Any, sentence: str) -> None:
    paragraphs = [f"Package: {name}\nStatus: install ok installed\nVersion: {at}\n" for name, at in there.items()]
    write(
        tmp_path,
        "var/lib/dpkg/status",
        "\n".join([*paragraphs, "Package: podman\nStatus: deinstall ok config-files\n"]),
    )
    found = json.loads(run("docker", tmp_path, json.dumps(asked)))
    assert (sentence in found[0]) if sentence else found == []


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        ("var/lib/snapd/snaps/docker_2915.snap", "", "Docker is a snap"),
        ("usr/local/bin/dockerd", "", "belongs to no package"),
        (
            "etc/docker/daemon.json",
            '{"data-root": "/data", "log-driver": "local"}',
            "sets data-root, which the role would",
        ),
        ("etc/docker/daemon.json", "{", "is not valid JSON"),
        ("etc/docker/daemon.json", '{"log-driver": "local"}', ""),
    ],
)
def test_engine_that_would_lose_something_is_named(tmp_path: Path, path: str, text: str, sentence: str) -> None:
    write(tmp_path, path, text)
    found = json.loads(run("docker", tmp_path, json.dumps(PACKAGES)))
    assert (sentence in found[0]) if sentence else found == []


# --- who has the public ports


def test_program_on_a_public_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = program("nginx")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        used = (server.getsockname()[1], six.getsockname()[1])
        monkeypatch.setattr(ports, "PORTS", used)
        found = list(ports.programs(Path("/proc")))
    assert [text.split(",")[0] for text in found] == [
        f"Port {port} is taken by {Path('/proc/self/comm').read_text().strip()}" for port in used
    ]
    assert list(ports.programs(Path("/proc"))) == []


@pytest.mark.parametrize(("name", "told"), [("dockerd", 0), ("docker-proxy", 0), ("apache2", 2)])
def test_ports_that_the_engine_holds_are_those_of_containers(tmp_path: Path, name: str, told: int) -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    rows = [
        f"   {row}: 00000000:{port:04X} 00000000:0000 0A 0:0 0:0 0 0 0 77{row}\n" for row, port in enumerate((80, 443))
    ]
    write(tmp_path, "net/tcp", head + "".join(rows))
    write(tmp_path, "4/comm", f"{name}\n")
    (tmp_path / "4/fd").mkdir()
    for row in range(2):
        (tmp_path / f"4/fd/{row}").symlink_to(f"socket:[77{row}]")
    assert len(list(program("nginx").programs(tmp_path))) == told


@pytest.mark.parametrize(("owner", "taken"), [("wearon", False), ("shop", True), ("", True)])
def test_container_of_others_on_a_public_port_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, taken: bool
) -> None:
    write(tmp_path, "docker", f'#!/bin/sh\ncase "$*" in *publish=443*) echo "proxy {owner}" ;; esac\n').chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = list(program("nginx").containers("wearon"))
    assert [text.partition(",")[0] for text in found] == ["Port 443 is taken by the container proxy"] * taken


# --- firewalls, sshd and locks

INCLUDE = "Include /etc/ssh/sshd_config.d/*.conf\n"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, ""),
        ({"etc/ufw/ufw.conf": "ENABLED=no\n"}, ""),
        ({"etc/ufw/ufw.conf": "# comment\nENABLED=yes\n"}, "turn ufw off with `sudo ufw disable`"),
        ({"etc/systemd/system/multi-user.target.wants/firewalld.service": ""}, "firewalld is active"),
        (
            {"etc/ssh/sshd_config": INCLUDE, "etc/ssh/sshd_config.d/50-cloud-init.conf": "PasswordAuthentication yes"},
            "",
        ),
        (
            {"etc/ssh/sshd_config": INCLUDE, "etc/ssh/sshd_config.d/00-image.conf": "passwordauthentication=yes"},
            "00-image.conf sets passwordauthentication yes, and sshd reads that before",
        ),
        ({"etc/ssh/sshd_config": f"PermitRootLogin yes\n{INCLUDE}"}, "sshd_config sets permitrootlogin yes"),
        ({"etc/ssh/sshd_config": f"Port 22\nPermitRootLogin no\n{INCLUDE}PasswordAuthentication yes\n"}, ""),
        ({"etc/ssh/sshd_config": "Port 22\n"}, "does not read sshd_config.d"),
    ],
)
def test_what_works_against_the_firewall_and_sshd_is_named(
    tmp_path: Path, files: dict[str, str], sentence: str
) -> None:
    for name, text in files.items():
        write(tmp_path, name, text)
    found = json.loads(run("base", tmp_path, "wearon"))
    assert found["locks"] == ""
    assert [sentence in text for text in found["problems"]] == [True] * bool(sentence)


@pytest.mark.parametrize("lock", program("base").LOCKS)
def test_program_that_installs_packages_is_named(tmp_path: Path, lock: str) -> None:
    path = write(tmp_path, lock)
    with path.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert (
            f"holds {path}: another program installs packages." in json.loads(run("base", tmp_path, "wearon"))["locks"]
        )
    assert json.loads(run("base", tmp_path, "wearon"))["locks"] == ""
