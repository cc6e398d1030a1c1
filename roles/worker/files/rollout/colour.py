"""The new colour: its secrets, its recipe in the fragment and its container; the clean-up after a failure."""

import time
from contextlib import suppress
from pathlib import Path

import gate
import host
import plan
import releases

KEPT_LOGS = 5


def write_secrets(job: host.Job) -> dict[str, bool]:
    """Write the secrets of a colour, each into a file that only the worker reads."""
    changes = [
        host.write(Path(job["secrets"], f"worker-{job['colour']}.{name}"), value, 0o400, job["uid"])
        for name, value in job["values"].items()
    ]
    return {"changed": any(changes)}


def start(job: host.Job) -> None:
    """Start the replicas of the new colour, held back from the queue, and wait until all are healthy."""
    new = job["plan"]["new"]
    with host.alone(Path(job["folder"], "worker")):
        host.write(host.place(job, new) / "hold", "")
        plan.write_recipes(job, plan.new_recipes(job))
        project = ("-p", job["project"], "-f", f"{job['folder']}/docker-compose.prod.yml")
        flags = ("--detach", "--no-deps", "--pull", "never", *(f"worker-{one}" for one in host.wanted(job, new)))
        up = host.run("docker", "compose", *project, "up", *flags, seconds=300)
    if up.returncode:
        host.refuse(f"the engine could not start it: {up.stderr}")
    for one in host.wanted(job, new):
        if fault := gate.fault_within(host.container(job, one), job["start_seconds"] + 10):
            host.refuse(f"it did not become healthy: {gate.named(one, fault)}")


def abandon(job: host.Job) -> dict[str, str]:
    """Keep the log of the colour that failed, restore the fragment, record the failure; go on with a full disk."""
    log = _keep_log(job)
    with suppress(SystemExit), host.alone(Path(job["folder"], "worker")):
        plan.write_recipes(job, job["plan"]["recipes"])
    with suppress(SystemExit):
        releases.record(job)
    failed, present = (job["plan"][one].partition("@")[0] for one in ("reference", "present"))
    serves = f"{job['plan']['old']} serves on with {present}" if job["plan"]["old"] else "No colour serves there"
    return {"log": log, "sentence": f"{failed} was not rolled out on {job['host']}: {job['failure']}. {serves}."}


def _keep_log(job: host.Job) -> str:
    """Return the path of the log, nothing if the disk is full."""
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(time.time()))}-{job['host']}.log"
    path = Path(job["folder"], "worker/failures", name)
    names = [host.container(job, one) for one in host.wanted(job, job["plan"]["new"])]
    logs = [host.run("docker", "logs", "--timestamps", "--tail", "5000", one) for one in names]
    lines = "".join(one.stdout + one.stderr for one in logs)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.touch(0o600)
        path.write_text(f"{job['plan']['reference']} on {job['host']}: {job['failure']}\n{lines}")
        for old in sorted(path.parent.glob("*.log"))[:-KEPT_LOGS]:
            old.unlink()
    except OSError:
        return ""
    return str(path)
