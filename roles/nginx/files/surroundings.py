"""Programs and containers of this host that have the public ports. Prints sentences as JSON."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PORTS = (80, 443)
LISTENS = "0A"
#: Hold the ports of containers, which are looked at by themselves; the engine does without its proxy when told to.
DOCKER = {"docker-proxy", "dockerd"}


def main(proc: Path, project: str) -> None:
    """Look at the processes below `proc`, and at the containers that are not the project's."""
    print(json.dumps([*programs(proc), *containers(project)]))


def programs(proc: Path) -> Iterator[str]:
    """Sentences about processes that listen."""
    for port in PORTS:
        sockets = {inode for table in ("tcp", "tcp6") for inode in listening(proc / "net" / table, port)}
        names = {*owners(proc, sockets)} - DOCKER
        if names:
            name = sorted(names)[0]
            yield f"Port {port} is taken by {name}, and the stack needs it: `sudo systemctl disable --now {name}`."


def listening(table: Path, port: int) -> Iterator[str]:
    """Inodes of the sockets of a table that listen at the port, at whatever address."""
    for line in table.read_text().splitlines()[1:] if table.exists() else []:
        words = line.split()
        if words[3] == LISTENS and int(words[1].rpartition(":")[2], 16) == port:
            yield words[9]


def owners(proc: Path, inodes: set[str]) -> Iterator[str]:
    """Names of the processes that hold one of the sockets."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in proc.glob("[0-9]*") if wanted else []:
        try:
            if any(str(file.readlink()) in wanted for file in (process / "fd").iterdir()):
                yield (process / "comm").read_text().strip()
        except OSError:
            continue  # it has ended


def containers(project: str) -> Iterator[str]:
    """Sentences about containers of others that publish the ports."""
    if not shutil.which("docker"):
        return
    form = '{{.Names}} {{.Label "com.docker.compose.project"}}'
    for port in PORTS:
        command = ["docker", "ps", "--filter", f"publish={port}", "--format", form]
        run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        for name, _, owner in (line.partition(" ") for line in run.stdout.splitlines()):
            if owner != project:
                yield f"Port {port} is taken by the container {name}, and the stack needs it: `docker stop {name}`."


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
