"""Which colours nginx sends requests to; runs on the server."""

import time

import host

_QUIET_SECONDS = 75


def serve(job: host.Job) -> int:
    """Record the colours of a host, and let nginx follow. Return the time.

    nginx is told even if the record is right: a play may have been killed in between.
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
    filters = [part for label in labels for part in ("--filter", f"label={label}")]
    nginx = host.run("docker", "ps", "--quiet", *filters).stdout.split()
    for _ in range(_QUIET_SECONDS if nginx else 0):
        if "shutting down" not in host.run("docker", "top", nginx[0]).stdout:
            return
        time.sleep(1)


if __name__ == "__main__":
    host.answer({"serve": serve})
