"""The colours that nginx sends the requests of a host to. This step runs on the server."""

import time

import host

_QUIET_SECONDS = 75


def route(job: host.Job) -> int:
    """Record the colours and reload nginx. Return the time.

    The reload comes even if the record is right: a play may have been killed in between.
    """
    if job["quiet"] == "before":
        _wait_until_quiet(job["project"])
    host.write(job["path"], job["upstream"])
    reload = host.run(f"{job['folder']}/bin/activate-nginx", "--reload", seconds=120)
    if reload.returncode:
        host.refuse(f"nginx refused to follow: {reload.stderr or reload.stdout}")
    if job["quiet"] == "after":
        _wait_until_quiet(job["project"])
    return int(time.time())


def _wait_until_quiet(project: str) -> None:
    """Wait for the nginx processes of before the reload: they finish requests, and keep connections for a while."""
    labels = (f"com.docker.compose.project={project}", "com.docker.compose.service=nginx")
    nginx = host.run("docker", "ps", "--quiet", *(f"--filter=label={label}" for label in labels)).stdout.split()
    for _ in range(_QUIET_SECONDS if nginx else 0):
        if "shutting down" not in host.run("docker", "top", nginx[0]).stdout:
            return
        time.sleep(1)
