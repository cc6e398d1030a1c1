"""One deployment at a time: the lock lies on the server and says who holds it.

The lock that a dead play of the same machine left behind is taken over; any other is broken only on request. `take` and
`release` run on the server, `ticket` and `judge` where the play runs, because only there its processes can be seen.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import host

Ticket = dict[str, str]
_STALE_MINUTES = 30
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_UNREADABLE = {"host": "?", "machine": "", "who": "somebody", "play": "0", "when": "1970-01-01T00:00:00Z", "why": "?"}


def ticket(process: str, why: str) -> Ticket:
    """Return the ticket of the play whose child is `process`."""
    play = _ps("ppid", process)
    return {
        "host": os.uname().nodename,
        "machine": _machine(),
        "who": os.environ.get("GITHUB_ACTOR") or os.environ.get("USER") or "somebody",
        "play": f"{play} {_ps('lstart', play)}",
        "when": time.strftime(_TIME, time.gmtime(time.time())),
        "why": why,
    }


def judge(held: Ticket) -> str:
    """Return the sentence for a lock that must be respected, nothing if its play has ended."""
    pid, _, started = held["play"].partition(" ")
    if held["machine"] == _machine() and _ps("lstart", pid) != started:
        return ""
    minutes = int(time.time() - time.mktime(time.strptime(f"{held['when']} UTC", f"{_TIME} %Z")) + time.timezone) // 60
    stale = ", stale" if minutes >= _STALE_MINUTES else ""
    return (
        f"Locked since {held['when']} ({minutes} minutes{stale}) by {held['who']} on {held['host']}: {held['why']}. "
        "Nothing was changed. Wait for that play; if it is dead, add -e break_lock=true"
    )


def take(job: host.Job) -> Ticket:
    """Take the lock if it is free, or held by this play or by `instead_of`. Return the ticket of another holder."""
    path = Path(job["lock"])
    if not path.parent.is_dir():
        host.refuse(f"{job['server']} was never provisioned: run `make deploy` (playbooks/site.yml) first")
    with host.alone(path.parent):
        held = _holder(path)
        if held and _play(held) != _play(job["ticket"]) and held != job["instead_of"]:
            return held
        host.write(path, json.dumps(job["ticket"]))
    return {}


def release(job: host.Job) -> None:
    """Remove the lock if this play holds it."""
    path = Path(job["lock"])
    with host.alone(path.parent):
        if _play(_holder(path)) == _play(job["ticket"]):
            path.unlink()


def _holder(path: Path) -> Ticket:
    if not path.exists():
        return {}
    try:
        held: Any = json.loads(path.read_text())
        time.strptime(held["when"], _TIME)
    except (ValueError, TypeError, KeyError):
        held = {}
    return {**_UNREADABLE, **held}


def _play(held: Ticket) -> tuple[str | None, str | None]:
    return held.get("machine"), held.get("play")


def _machine() -> str:
    """Host names are not unique, and a container has processes of its own."""
    parts = [os.uname().nodename, host.read("/etc/machine-id")]
    if Path("/proc/self/ns/pid").is_symlink():
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _ps(field: str, process: str) -> str:
    return host.flat(host.run("env", "LC_ALL=C", "ps", "-o", f"{field}=", "-p", process).stdout)


if __name__ == "__main__":
    if sys.argv[1] == "ticket":
        print(json.dumps(ticket(*sys.argv[2:4])))
    elif sys.argv[1] == "judge":
        print(judge(json.loads(sys.argv[2])))
    else:
        host.answer({"take": take, "release": release})
