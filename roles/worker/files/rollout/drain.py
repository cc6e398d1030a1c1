"""The end of a colour. A systemd unit ends the container, so that the drain goes on when the play dies.

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

#: The worker's own drain is over by then: 20 s to release generations, 3 for callbacks, 5 to leave, 6 for HTTP.
GRACE_SECONDS = 40
_HELD_SECONDS = 20
_LATE_SECONDS = 30
_TURN_SECONDS = 10
_REQUEUED = "the workers that run requeue or refund what it still held"


def drain(job: host.Job) -> dict[str, Any]:
    """Begin the drain, wait ten seconds at most, remove an ended colour. Return if it runs on, and a report."""
    jobs, turn = [{**job, "colour": one} for one in _present(job)], time.monotonic() + _TURN_SECONDS
    for one in jobs:
        begin(one)
    while running := [one for one in jobs if _outlasts(one)]:
        if time.monotonic() > turn:
            return {"running": True, "sentence": "; ".join(map(_progress, running))}
        time.sleep(1)
    return {"running": False, "sentence": _remove(job, jobs)}


def begin(job: host.Job) -> None:
    """Start the drain of a replica unless its unit runs already."""
    name, unit = host.container(job, job["colour"]), f"{job['project']}-drain-{job['colour']}"
    state = _state(name)
    if not state or not state["State"]["Running"]:
        return
    start = f"{state['Id']} {state['State']['StartedAt']}"
    if _note(job).get("start") != start:
        # A unit of this name still waits for an earlier container.
        host.run("systemctl", "stop", unit)
        note = {"start": start, "began": time.time(), "limit": _limit(job, state)}
        host.write(_note_file(job), json.dumps(note))
    if host.run("systemctl", "is-active", "--quiet", unit).returncode == 0:
        return
    host.run("systemctl", "reset-failed", unit)
    left = max(0, round(_note(job)["began"] + _note(job)["limit"] - time.time()))
    drains = "1" if _health(job).get("state") == "draining" else ""
    command = (sys.executable, str(Path(__file__).parent), "end", name, str(left), drains)
    if host.run("systemd-run", "--quiet", "--collect", "--unit", unit, *command).returncode:
        _tell(name, bool(drains))  # no unit: `drain` ends the colour at its limit


def end(name: str, seconds: str, drains: str) -> None:
    """End the container in order, then by force; the unit runs this. Ask an engine that restarts again."""
    told, until = bool(drains), time.monotonic() + int(seconds)
    while _running(name) and (left := until - time.monotonic()) > 0:
        told = _tell(name, told)
        if host.run("docker", "wait", name, seconds=left if told else 1).returncode:
            time.sleep(1)
    if _running(name):
        host.run("docker", "stop", "--time", str(_LATE_SECONDS), name, seconds=2 * _LATE_SECONDS)
    if _running(name):
        host.run("docker", "rm", "--force", name)


def _tell(name: str, told: bool) -> bool:
    """Send the one SIGTERM unless the colour was told. Return False if the engine did not pass the signal on."""
    # Otherwise the engine would start a worker again that ends by itself.
    host.run("docker", "update", "--restart=no", name)
    return told or host.run("docker", "kill", "--signal", "SIGTERM", name).returncode in (0, 124)


def _present(job: host.Job) -> list[str]:
    """Return the replicas of the colour that the engine has, at least the first one."""
    names = {host.container(job, one): one for one in host.replicas(job, job["colour"])}
    found = [names[one["Name"].removeprefix("/")] for one in host.inspect(*names)]
    return found or [job["colour"]]


def _outlasts(job: host.Job) -> bool:
    """Return True while a replica runs. Remove by force a replica that hangs."""
    name, note = host.container(job, job["colour"]), _note(job)
    if not _running(name):
        return False
    if time.time() <= note["began"] + note["limit"] + 4 * _LATE_SECONDS:
        return True
    host.run("docker", "rm", "--force", name)
    return False


def _remove(job: host.Job, jobs: list[host.Job]) -> str:
    """Remove what is left of the colour. Return what became of its generations."""
    names = [host.container(one, one["colour"]) for one in jobs]
    reports = [_report(one["colour"], name, _note(one).get("began")) for one, name in zip(jobs, names, strict=True)]
    for file in host.leftovers(job, job["colour"]):
        file.unlink()
    for name in names:
        host.run("docker", "rm", "--force", name)
        if _state(name):
            stays = f"The engine cannot remove {name}: the next rollout tries again"
            reports.append(f"{stays}; the serving colour is not affected")
    return "; ".join(reports)


def _report(colour: str, name: str, began: float | None) -> str:
    if not began:
        return f"{colour} did not run any more"
    state, taken = _state(name), f"after {round(time.time() - began)} s"
    if not state:
        return f"{colour} was removed by force {taken}: {_REQUEUED}"
    logs = host.run("docker", "logs", "--since", str(int(began)), name)
    events = Counter(str(host.fields(line).get("event")) for line in (logs.stdout + logs.stderr).splitlines())
    parts = [f"{events['generation_ended']} generations ended", f"{events['message_given_back']} messages requeued"]
    parts += [f"{events['generation_released']} generations released"] if events["generation_released"] else []
    killed = state["State"]["ExitCode"] == 137
    how, rest = ("was killed", f"; {_REQUEUED}") if killed else ("ended", "")
    return f"{colour} {how} {taken}; since the drain began {', '.join(parts)}{rest}"


def _progress(job: host.Job) -> str:
    note = _note(job)
    active = _health(job).get("parts", {}).get("celery", {}).get("active", "its")
    seconds, limit = round(time.time() - note["began"]), round(note["limit"])
    late = "" if seconds <= limit else "; it hangs and is being killed"
    return f"{job['colour']} finishes {active} running generations: {seconds} of at most {limit} seconds{late}"


def _health(job: host.Job) -> dict[str, Any]:
    return host.fields(host.ask(f"{host.url(job, job['colour'])}/health", seconds=3)[1])


def _limit(job: host.Job, state: dict[str, Any]) -> float:
    """Return the colour's own limit: the inventory may say another one by now."""
    if (host.place(job, job["colour"]) / "hold").exists():
        return _HELD_SECONDS  # what was held back has nothing to finish
    return float(state["Config"].get("StopTimeout") or job["drain_seconds"] + GRACE_SECONDS)


def _note_file(job: host.Job) -> Path:
    number = job["colour"].partition("-")[2]
    return host.place(job, job["colour"]) / (f"drain-{number}.json" if number else "drain.json")


def _note(job: host.Job) -> dict[str, Any]:
    """Return which container drains since when and until when; an unreadable note counts as none."""
    note = host.fields(host.read(_note_file(job)))
    return note if {"start", "began", "limit"} <= note.keys() else {}


def _state(name: str) -> dict[str, Any]:
    return next(iter(host.inspect(name)), {})


def _running(name: str) -> bool:
    """Return True unless the engine denies it: an engine that does not answer knows nothing of the generations."""
    seen = host.run("docker", "inspect", "--format", "{{.State.Running}}", name)
    return "false" not in seen.stdout and "o such" not in seen.stderr
