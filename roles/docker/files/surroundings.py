"""An engine on this host that the role would replace, and settings that would be lost. Prints sentences as JSON."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

#: Packages of other makers that bring an engine, or what Docker's own packages replace.
OTHERS = ("docker.io", "docker-engine", "moby-engine", "podman-docker", "containerd")
STATUS = "var/lib/dpkg/status"


def main(root: Path, packages: list[str], settings: list[str]) -> None:
    """Look at the host below `root`, which gets these packages and these keys in daemon.json."""
    print(json.dumps([*engines(root, packages), *lost_settings(root, settings)]))


def engines(root: Path, packages: list[str]) -> Iterator[str]:
    """Sentences about engines that do not come from the role's packages."""
    wanted = {package.split("=")[0] for package in packages}
    there = installed(root)
    others = [package for package in OTHERS if package in there - wanted]
    if others and not {"docker-ce", "docker.io"} & wanted & there:
        yield (
            f"Docker's packages replace {', '.join(others)}, and their containers would stop: move these away and "
            f"type `sudo apt-get remove {' '.join(others)}` (images and volumes stay), or set docker_packages."
        )
    if list((root / "var/lib/snapd/snaps").glob("docker_*.snap")):
        yield "Docker is a snap, which cannot read /opt: `sudo snap remove docker` (this deletes its containers)."
    for path in (root / "usr/local/bin/dockerd", root / "usr/bin/dockerd"):
        if path.exists() and not there & {"docker-ce", *OTHERS}:
            yield f"{path} belongs to no package: remove that Docker (its programs and its unit docker.service) first."


def installed(root: Path) -> set[str]:
    """Names of the installed packages."""
    status, found, name = root / STATUS, set(), ""
    for line in status.read_text(errors="replace").splitlines() if status.exists() else []:
        if line.startswith("Package: "):
            name = line.removeprefix("Package: ")
        elif line.startswith("Status: ") and line.endswith(" installed"):
            found.add(name)
    return found


def lost_settings(root: Path, settings: list[str]) -> Iterator[str]:
    """Sentence about keys of daemon.json that the role would not keep."""
    path = root / "etc/docker/daemon.json"
    try:
        keys = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        yield f"{path} is not valid JSON: mend or remove it."
        return
    if lost := sorted(keys.keys() - set(settings)):
        yield f"{path} sets {', '.join(lost)}, which the role would remove: take that over into docker_daemon_extra."


if __name__ == "__main__":
    main(Path(sys.argv[1]), *json.loads(sys.argv[2]))
