"""A first `site.yml` that is killed again and again: `python -m tests.testbed.interrupted INVENTORY...`.

Each run is killed, with all its processes, a moment after one of MOMENTS has begun. The first host loses its power with
each kill; the others go on with what the run has started. A run of the playbook to its end must find nothing of that.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.molecule.hosts import ROOT, docker

#: What is half done when the run dies, and the seconds that it has been going on.
MOMENTS = {
    "docker : Install the Docker engine": 4.0,
    "compose : Bring the stack up and wait until it is healthy": 3.0,
}
#: Longer than any task takes on a busy machine.
PATIENCE_SECONDS = 300


def run_until(moment: str, seconds: float, inventories: list[str]) -> None:
    """Start the playbook and kill it; fails if it never got there."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/site.yml"]
    command += [f"--inventory={inventory}" for inventory in inventories]
    playbook = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    said = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    assert playbook.stdout
    for line in playbook.stdout:
        said.append(line)
        if f"TASK [{moment}" in line or time.monotonic() > deadline:
            break
    else:
        sys.exit(f"site.yml ended before {moment!r}:\n{''.join(said[-40:])}")
    time.sleep(seconds)
    os.killpg(playbook.pid, signal.SIGKILL)
    playbook.wait()


def power_cut(host: str) -> None:
    """The machine dies in the middle of its work and starts again."""
    docker("restart", "--time", "0", host)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while docker("exec", host, "systemctl", "is-system-running", check=False) not in {"running", "degraded"}:
        if time.monotonic() > deadline:
            sys.exit(f"{host} did not come back")
        time.sleep(0.5)


if __name__ == "__main__":
    for moment, seconds in MOMENTS.items():
        run_until(moment, seconds, sys.argv[1:])
        power_cut("first")
        print(f"killed at {moment}", flush=True)
