"""The new colour: its secrets, its recipe in the fragment, its container; and what is left of a colour that failed."""

import time
from pathlib import Path

import host
import plan
from watch import fault_within

KEPT_LOGS = 5


def secrets(job: host.Job) -> dict[str, bool]:
    """Write the secrets of a colour, each in a file that the worker alone reads."""
    changes = [
        host.write(Path(job["secrets"], f"worker-{job['colour']}.{name}"), value, 0o400, job["uid"])
        for name, value in job["values"].items()
    ]
    return {"changed": any(changes)}


def start(job: host.Job) -> None:
    """Start the planned colour, held back from the queue, and wait until it is healthy."""
    new = job["plan"]["new"]
    service = {**job["services"][f"worker-{new}"], "image": job["plan"]["reference"]}
    with host.alone(Path(job["folder"], "worker")):
        host.write(host.place(job, new) / "hold", "")
        host.write(job["fragment"], plan.fragment(job, {**job["plan"]["recipes"], f"worker-{new}": service}))
        project = ("-p", job["project"], "-f", f"{job['folder']}/docker-compose.prod.yml")
        flags = ("--detach", "--no-deps", "--pull", "never", f"worker-{new}")
        up = host.run("docker", "compose", *project, "up", *flags, seconds=300)
    if up.returncode:
        host.refuse(f"the engine could not start it: {up.stderr}")
    fault = fault_within(host.container(job, new), job["start_seconds"] + 10)
    if fault:
        host.refuse(f"it did not become healthy: {fault}")


def keep_log(job: host.Job) -> dict[str, str]:
    """Keep the last lines of the failed colour's log, and why it failed; a full disk must not stop the way back."""
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(time.time()))}-{job['host']}.log"
    path = Path(job["folder"], "worker/failures", name)
    log = host.run("docker", "logs", "--timestamps", "--tail", "5000", host.container(job, job["plan"]["new"]))
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.touch(0o600)
        path.write_text(f"{job['plan']['reference']} on {job['host']}: {job['failure']}\n{log.stdout}{log.stderr}")
        for old in sorted(path.parent.glob("*.log"))[:-KEPT_LOGS]:
            old.unlink()
    except OSError as error:
        return {"log": "", "sentence": f"its log could not be kept: {error.strerror}"}
    return {"log": str(path)}


def restore(job: host.Job) -> None:
    """Write the fragment as it was before the start."""
    with host.alone(Path(job["folder"], "worker")):
        host.write(job["fragment"], plan.fragment(job, job["plan"]["recipes"]))


if __name__ == "__main__":
    host.answer({"secrets": secrets, "start": start, "keep_log": keep_log, "restore": restore})
