"""Other programs of this host that work against the role: held package locks, other firewalls, other settings of sshd.

Prints JSON: `locks`, a sentence while another program installs packages, and `problems`, sentences on what to change.
"""

import fcntl
import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

LOCKS = ("var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock", "var/lib/apt/lists/lock", "var/cache/apt/archives/lock")
#: Settings of sshd that the role makes; sshd takes the first value that it reads.
OURS = ("passwordauthentication", "kbdinteractiveauthentication", "permitemptypasswords", "permitrootlogin")
#: `struct flock` of Linux with 64 bits.
FLOCK = "hhqqi4x"


def main(root: Path, name: str) -> None:
    """Look at the host below `root`; `name` is the project's."""
    print(json.dumps({"locks": locks(root), "problems": [*firewalls(root), *sshd(root, f"00-{name}.conf")]}))


def locks(root: Path) -> str:
    """Sentence about the program that holds one of the locks of packages; asked without taking the lock."""
    for path in (root / lock for lock in LOCKS):
        if not path.exists():
            continue
        with path.open("rb") as file:
            asked = struct.pack(FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
            kind, *_, holder = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
        if kind != fcntl.F_UNLCK:
            return f"{command(holder)} (process {holder}) holds {path}: another program installs packages."
    return ""


def command(process: int) -> str:
    """Name of a process."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return "a program"


def firewalls(root: Path) -> Iterator[str]:
    """Sentences about firewalls that are on and would close what the role opens."""
    settings = root / "etc/ufw/ufw.conf"
    if settings.exists() and re.search(r"^\s*ENABLED\s*=\s*[\"']?yes", settings.read_text(), re.M | re.I):
        yield "ufw is active, and the role brings its own firewall: turn ufw off with `sudo ufw disable`."
    if list((root / "etc/systemd/system").glob("*.wants/firewalld.service")):
        yield "firewalld is active, and the role brings its own firewall: `sudo systemctl disable --now firewalld`."


def sshd(root: Path, ours: str) -> Iterator[str]:
    """Sentences about lines that sshd reads before the role's file, and about a file that it would never read."""
    main_file, included = root / "etc/ssh/sshd_config", False
    if not main_file.exists():
        return
    for line in statements(main_file):
        if line[0] == "include" and "sshd_config.d" in " ".join(line):
            included = True
            break
        if weakens(line):
            yield contradiction(main_file, line)
        if line[0] == "match":
            break
    if not included:
        yield (
            f"{main_file} does not read sshd_config.d before anything else, so passwords would stay allowed: put "
            "`Include /etc/ssh/sshd_config.d/*.conf` in its first line."
        )
    for path in sorted((root / "etc/ssh/sshd_config.d").glob("*.conf")):
        if path.name < ours:
            yield from (contradiction(path, line) for line in statements(path) if weakens(line))


def statements(path: Path) -> Iterator[list[str]]:
    """Words of each line, without comments; the keyword in lower case."""
    for line in path.read_text(errors="replace").splitlines():
        words = re.split(r"[\s=]+", line.strip())
        if words[0] and not words[0].startswith("#"):
            yield [words[0].lower(), *words[1:]]


def weakens(line: list[str]) -> bool:
    """Tell whether a line allows what the role forbids."""
    return line[0] in OURS and line[1:2] == ["yes"]


def contradiction(path: Path, line: list[str]) -> str:
    """Sentence about a line that counts more than the role's."""
    return f"{path} sets {' '.join(line)}, and sshd reads that before the role's own file: remove that line."


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
