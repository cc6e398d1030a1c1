"""One deployment at a time: the lock lies on the server and names the play that holds it; a log says how it ended.

`take` and `release` run on the server; `ticket` and `ended` run where the play runs, because only there its process
can be seen. The lock of a play that has ended is replaced, any other lock only on request.
"""

import calendar
import getpass
import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

import host

Ticket = dict[str, str]
_STALE_MINUTES = 30
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_COMMIT = ("--always", "--dirty", "--exclude=*", "--abbrev=12")
_UNREADABLE = {
    "host": "?",
    "machine": "",
    "who": "unknown",
    "play": "0",
    "when": "1970-01-01T00:00:00Z",
    "why": "?",
    "commit": "?",
}


def ticket(process: str, why: str) -> Ticket:
    """Return the ticket of the play whose child is `process`."""
    play = _ps("ppid", process)
    return {
        "host": os.uname().nodename,
        "machine": _machine(),
        "who": os.environ.get("GITHUB_ACTOR") or _account(),
        "play": f"{play} {_ps('lstart', play)}",
        "when": time.strftime(_TIME, time.gmtime(time.time())),
        "why": why,
        "commit": host.run("git", "-C", str(Path(__file__).parent), "describe", *_COMMIT).stdout.strip() or "unknown",
    }


def ended(found: str) -> bool:
    """Return True if the play of this lock ran on this machine and has ended."""
    held = _parse(found)
    pid, _, started = held["play"].partition(" ")
    return held["machine"] == _machine() and _ps("lstart", pid) != started


def take(job: host.Job) -> Ticket:
    """Take the lock if no other play holds it, or if it is still the lock that was `found` and may be replaced."""
    path, mine = Path(job["lock"]), dict(job["ticket"])
    if job["new"]:
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        host.refuse(f"{job['server']} was never provisioned: run `make deploy` (playbooks/site.yml) first")
    with host.alone(path.parent):
        if host.is_locked(path.with_name("reboot.lock")):
            host.refuse(f"{job['server']} drains its worker for a reboot. Nothing was changed: try again in 10 minutes")
        held = _parse(path.read_text()) if path.exists() else mine
        if _play(held) != _play(mine) and not (job["replace"] and held == _parse(job["found"])):
            minutes = int(time.time() - calendar.timegm(time.strptime(held["when"], _TIME))) // 60
            stale = ", stale" if minutes >= _STALE_MINUTES else ""
            host.refuse(
                f"Locked since {held['when']} ({minutes} minutes{stale}) by {held['who']} on {held['host']}: "
                f"{held['why']}. Nothing was changed. Wait for that play; if it is dead, add -e break_lock=true"
            )
        if _play(held) != _play(mine):
            _log(job, held, "failed: the play was killed")
        host.write(path, json.dumps(mine))
    return mine


def release(job: host.Job) -> None:
    """Remove the lock if this play holds it, and log the result."""
    path = Path(job["lock"])
    with host.alone(path.parent):
        if path.exists() and _play(held := _parse(path.read_text())) == _play(job["ticket"]):
            path.unlink()
            _log(job, held, job["result"])


def _log(job: host.Job, held: Ticket, result: str) -> None:
    """Append one line, which Alloy reads (roles/alloy) and `make status` shows; a full disk fails no deployment."""
    now = time.time()
    line = {
        "time": time.strftime(_TIME, time.gmtime(now)),
        "level": "error" if result.startswith("failed") else "info",
        "event": "deployment_ended",
        "result": result,
        "seconds": int(now - calendar.timegm(time.strptime(held["when"], _TIME))),
        **{name: held[name] for name in ("who", "host", "why", "commit")},
    }
    with suppress(OSError):
        Path(job["log"]).parent.mkdir(exist_ok=True)
        with Path(job["log"]).open("a") as file:
            file.write(json.dumps(line) + "\n")


def _parse(text: str) -> Ticket:
    held = host.fields(text)
    try:
        time.strptime(held["when"], _TIME)
    except (ValueError, TypeError, KeyError):
        held = {}
    return {**_UNREADABLE, **held}


def _play(held: Ticket) -> tuple[str, str]:
    return held["machine"], held["play"]


def _account() -> str:
    """Return the account's name; cron and containers may set no USER."""
    with suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return "unknown"


def _machine() -> str:
    """Identify the machine: host names are not unique, and a container has processes of its own."""
    parts = [os.uname().nodename, host.read("/etc/machine-id")]
    if Path("/proc/self/ns/pid").is_symlink():
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _ps(field: str, process: str) -> str:
    return host.flat(host.run("env", "LC_ALL=C", "ps", "-o", f"{field}=", "-p", process).stdout)
