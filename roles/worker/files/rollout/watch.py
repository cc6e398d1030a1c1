"""Wait until a colour is healthy, or as long as it has to stay up; both end early when it is clear that it fails."""

import time

import host
from gate import ask

_SILENT_LOOKS = 5
_FORMAT = "{{.State.Status}} {{.State.Health.Status}} {{.State.StartedAt}}/{{.RestartCount}} {{.State.ExitCode}}"


def watch(job: host.Job) -> None:
    """Refuse the new colour if it does not stay up and ready after the switch."""
    new = job["plan"]["new"]
    fault = fault_within(host.container(job, new), job["watch_seconds"], f"{host.url(job, new)}/ready")
    if fault:
        host.refuse(f"it did not stay up after the switch: {fault}")


def check(job: host.Job) -> None:
    """Refuse the colour that serves if it is not healthy within a minute."""
    serving = job["plan"]["serving"]
    fault = fault_within(host.container(job, serving), 60)
    if fault:
        host.refuse(
            f"{serving} serves on {job['host']} what is wanted, but {fault}. Ask its doctor: "
            f"docker exec {host.container(job, serving)} python3 -m worker doctor"
        )


def fault_within(name: str, seconds: float, ready: str = "") -> str:
    """Return the fault of a container, if any.

    The container has to become healthy within the time, or with `ready` to stay up and answer there for as long.
    """
    end, first, silent = time.monotonic() + seconds, _look(name)[2], 0
    while time.monotonic() <= end:
        state, health, start, code = _look(name)
        fault = _end(state, code, again=start != first)
        if not ready and not fault and health == "unhealthy":
            fault = "the container is unhealthy"
        silent = silent + 1 if ready and ask(ready, seconds=3)[0] != 200 else 0
        if silent == _SILENT_LOOKS:
            fault = f"the container was not ready for {_SILENT_LOOKS} looks"
        if fault or (health == "healthy" and not ready):
            return fault
        time.sleep(1)
    return "" if ready else f"the container was not healthy within {seconds} s"


def _look(name: str) -> list[str]:
    seen = host.run("docker", "inspect", "--format", _FORMAT, name).stdout.split()
    return seen or ["", "", "", ""]


def _end(state: str, code: str, *, again: bool) -> str:
    if not state:
        return "the container is gone"
    if state in ("exited", "dead", "restarting"):
        return f"the container ended with exit code {code}"
    return f"the container ended and was started again (exit code {code})" if again else ""


if __name__ == "__main__":
    host.answer({"watch": watch, "check": check})
