"""The colours that nginx sends the requests of a host to. These steps run on the server."""

import re
import time
from pathlib import Path

import host

_QUIET_SECONDS = 75


def route(job: host.Job) -> int:
    """Record the colours and reload nginx. Return the time.

    The reload comes even if the record is right: a play may have been killed in between.
    """
    if job["quiet"] == "before":
        _wait_until_quiet(job["project"])
    host.write(job["path"], job["upstream"])
    _reload(job)
    if job["quiet"] == "after":
        _wait_until_quiet(job["project"])
    return int(time.time())


def leave(job: host.Job) -> dict[str, bool]:
    """Mark the colours of a host that leaves: they get no requests. Return True if the record has changed."""
    record = host.read(job["path"])
    changed = host.write(job["path"], re.sub(r"(?m)^(server [^\s;]+)[^;]*;", r"\1 down;", record)) if record else False
    if record:
        _reload(job)
    return {"changed": changed}


def serving(job: host.Job) -> str:
    """Return the record of the colour that serves a host, nothing for a new host.

    The address tells whose a record is: a host that got another name in the inventory takes its record along.
    """
    folder = Path(job["path"]).parent
    found = {path.stem: path.read_text() for path in folder.glob("*.conf")}
    kept = {name: _record(job, name, found) for name in job["workers"]}
    if not job["check"]:
        for name, text in kept.items():
            if text != found.get(name, ""):
                host.write(folder / f"{name}.conf", text)
        for name in found.keys() - kept.keys():
            if found[name] in kept.values():
                (folder / f"{name}.conf").unlink()
    return kept.get(job["host"], "")


def _record(job: host.Job, name: str, found: dict[str, str]) -> str:
    edge = [place["address"] for place in job["colours"].values()]
    addresses = edge if name == job["server"] else [job["workers"][name]]
    own = [text for text in found.values() if any(f"server {one}:" in text for one in addresses if one)]
    recorded = found.get(name, "")
    return recorded if recorded in own or not own else own[0]


def _reload(job: host.Job) -> None:
    reload = host.run(f"{job['folder']}/bin/activate-nginx", "--reload", seconds=120)
    if reload.returncode:
        host.refuse(f"nginx refused to follow: {reload.stderr or reload.stdout}")


def _wait_until_quiet(project: str) -> None:
    """Wait for the older nginx processes: they finish requests, and keep connections for a while."""
    labels = (f"com.docker.compose.project={project}", "com.docker.compose.service=nginx")
    nginx = host.run("docker", "ps", "--quiet", *(f"--filter=label={label}" for label in labels)).stdout.split()
    for _ in range(_QUIET_SECONDS if nginx else 0):
        if "shutting down" not in host.run("docker", "top", nginx[0]).stdout:
            return
        time.sleep(1)
