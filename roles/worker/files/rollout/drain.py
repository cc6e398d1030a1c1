"""Let a colour finish its generations and end. A systemd unit does it, which goes on when the play dies.

The worker gets one SIGTERM: a second one would cut its drain short. A colour that outstays its own limit gets that
second one, which releases its generations, and then is killed; the workers that run requeue what it still held.
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import host
from gate import ask

#: The worker's own drain is over by then: releasing generations takes 20 s, the farewell 5, the HTTP server 6.
GRACE_SECONDS = 40
_HELD_SECONDS = 20
_LATE_SECONDS = 30
_TURN_SECONDS = 10


def begin(job: host.Job) -> None:
    """Start the drain unless it goes on already."""
    name, unit = host.container(job, job["colour"]), _unit(job)
    state = _state(name)
    if not state or not state["State"]["Running"]:
        return
    start = f"{state['Id']} {state['State']['StartedAt']}"
    if _note(job).get("start") != start:
        # A unit of this name still waits for a container of before.
        host.run("systemctl", "stop", unit)
        note = {"start": start, "began": time.time(), "limit": _limit(job, state)}
        host.write(_note_file(job), json.dumps(note))
    if host.run("systemctl", "is-active", "--quiet", unit).returncode == 0:
        return
    host.run("systemctl", "reset-failed", unit)
    left = max(0, round(_note(job)["began"] + _note(job)["limit"] - time.time()))
    drains = "1" if _health(job).get("state") == "draining" else ""
    command = (sys.executable, __file__, "end", name, str(left), drains)
    started = host.run("systemd-run", "--quiet", "--collect", "--unit", unit, *command)
    if started.returncode:
        host.refuse(f"{job['colour']} cannot be told to end: {started.stderr}")


def end(name: str, seconds: int, drains: bool) -> None:
    """End the container in order, then by force; runs in the unit."""
    # Otherwise the engine would start a worker again that ends by itself.
    host.run("docker", "update", "--restart=no", name)
    if not drains:
        host.run("docker", "kill", "--signal", "SIGTERM", name)
    host.run("docker", "wait", name, seconds=seconds)
    if _running(name):
        host.run("docker", "stop", "--time", str(_LATE_SECONDS), name, seconds=2 * _LATE_SECONDS)
    if _running(name):
        host.run("docker", "rm", "--force", name)


def wait(job: host.Job) -> dict[str, Any]:
    """Wait ten seconds at most. Return whether the colour runs on, and how far it is."""
    name, note = host.container(job, job["colour"]), _note(job)
    turn = time.monotonic() + _TURN_SECONDS
    while _running(name):
        if time.monotonic() > turn:
            return {"running": True, "sentence": _progress(job, note)}
        if time.time() > note["began"] + note["limit"] + 4 * _LATE_SECONDS:
            host.run("docker", "rm", "--force", name)
            break
        time.sleep(1)
    return {"running": False, "sentence": f"{job['colour']} has ended"}


def remove(job: host.Job) -> dict[str, str]:
    """Remove what is left of the colour. Return what became of its generations."""
    name = host.container(job, job["colour"])
    sentence = _farewell(job, _state(name), _note(job))
    for file in host.leftovers(job, job["colour"]):
        file.unlink()
    host.run("docker", "rm", "--force", name)
    if _state(name):
        host.refuse(f"the engine cannot remove {name}; the colour that serves is not affected. Run this again")
    return {"sentence": sentence}


def _farewell(job: host.Job, state: dict[str, Any], note: dict[str, Any]) -> str:
    colour, began = job["colour"], note.get("began")
    if not began:
        return f"{colour} did not run any more"
    taken = f"after {round(time.time() - began)} s"
    if not state:
        return f"{colour} was removed by force {taken}: {_REQUEUED}"
    events = _events(host.container(job, colour), began)
    parts = [f"{events['generation_ended']} generations ended", f"{events['message_given_back']} messages requeued"]
    parts += [f"{events['generation_released']} generations released"] if events["generation_released"] else []
    code = state["State"]["ExitCode"]
    ended = f"{colour} was killed {taken}" if code == 137 else f"{colour} ended {taken}"
    return f"{ended}; since the drain began {', '.join(parts)}{f'; {_REQUEUED}' if code == 137 else ''}"


_REQUEUED = "the workers that run requeue or refund what it still held"


def _events(name: str, began: float) -> Counter[str]:
    events: Counter[str] = Counter()
    logs = host.run("docker", "logs", "--since", str(int(began)), name)
    for line in (logs.stdout + logs.stderr).splitlines():
        try:
            events[json.loads(line)["event"]] += 1
        except (ValueError, TypeError, KeyError):
            continue
    return events


def _progress(job: host.Job, note: dict[str, Any]) -> str:
    active = _health(job).get("parts", {}).get("celery", {}).get("active", "its")
    seconds, limit = round(time.time() - note["began"]), round(note["limit"])
    late = "" if seconds <= limit else "; it hangs and is being killed"
    return f"{job['colour']} finishes {active} running generations: {seconds} of at most {limit} seconds{late}"


def _health(job: host.Job) -> dict[str, Any]:
    try:
        return dict(json.loads(ask(f"{host.url(job, job['colour'])}/health", seconds=3)[1]))
    except (ValueError, TypeError):
        return {}


def _limit(job: host.Job, state: dict[str, Any]) -> float:
    """The limit is the colour's own: the inventory may say another one by now."""
    if (host.place(job, job["colour"]) / "hold").exists():
        return _HELD_SECONDS  # what was held back has nothing to finish
    return float(state["Config"].get("StopTimeout") or job["drain_seconds"] + GRACE_SECONDS)


def _note_file(job: host.Job) -> Path:
    return host.place(job, job["colour"]) / "drain.json"


def _note(job: host.Job) -> dict[str, Any]:
    """Return which container drains since when and until when; one that is unreadable counts as none."""
    try:
        note = json.loads(host.read(_note_file(job)))
        return {"start": str(note["start"]), "began": float(note["began"]), "limit": float(note["limit"])}
    except (ValueError, TypeError, KeyError):
        return {}


def _state(name: str) -> dict[str, Any]:
    return next(iter(host.inspect(name)), {})


def _running(name: str) -> bool:
    """An engine that does not answer knows nothing of the generations."""
    seen = host.run("docker", "inspect", "--format", "{{.State.Running}}", name)
    return "false" not in seen.stdout and "o such" not in seen.stderr


def _unit(job: host.Job) -> str:
    return f"{job['project']}-drain-{job['colour']}"


if __name__ == "__main__":
    if sys.argv[1] == "end":
        end(sys.argv[2], int(sys.argv[3]), bool(sys.argv[4]))
    else:
        host.answer({"begin": begin, "wait": wait, "remove": remove})
