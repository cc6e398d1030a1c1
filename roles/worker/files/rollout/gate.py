"""The judgements on a colour: before it serves, after the switch, and after a play that was killed."""

import time
from concurrent.futures import ThreadPoolExecutor

import host

_LOOKS = 3
_SILENT_LOOKS = 5
_FORMAT = "{{.State.Status}} {{.State.Health.Status}} {{.State.StartedAt}}/{{.RestartCount}} {{.State.ExitCode}}"


def gate(job: host.Job) -> None:
    """Ask the new colour directly, past nginx, before any customer sees it. Refuse it with its fault."""
    for one in host.wanted(job, job["plan"]["new"]):
        _gate(job, one)


def _gate(job: host.Job, replica: str) -> None:
    url, photo = host.url(job, replica), job["photo"]
    seen = []
    for look in range(_LOOKS):
        time.sleep(1 if look else 0)
        seen.append(host.ask(f"{url}/ready")[0])
    if seen != [200] * _LOOKS:
        host.refuse(f"it was not ready three times in a row: {' '.join(map(str, seen))}")
    _check_doctor(host.container(job, replica))
    status, text = host.ask(f"{url}/health")
    health = host.fields(text)
    if status != 200 or not (health.get("model_loaded") and health.get("redis_connected")):
        host.refuse(f"its /health says: {text or 'no answer'}")
    # Without a photo of our own, ask with an address that the worker must refuse: all is tried but the download.
    body: dict[str, object] = {"image_url": photo or "http://127.0.0.1/rollout.jpg", "height_cm": 175}
    status, text = host.ask(f"{url}/estimate-body", body, seconds=30)
    if status != (expected := 200 if photo else 400):
        host.refuse(f"/estimate-body answered {status or 'nothing'} instead of {expected}: {text[:300]}")


def watch(job: host.Job) -> None:
    """Refuse the new colour if it does not stay up and ready after the switch."""
    if fault := _watch(job, host.wanted(job, job["plan"]["new"])):
        host.refuse(f"it did not stay up after the switch: {fault}")


def settle(job: host.Job) -> dict[str, str]:
    """Return which colour stays and which one leaves after a play was killed.

    The recorded colour stays, unless it does not run or fails its watch, and the other one still runs.
    """
    stays, leaves = job["plan"]["serving"], job["plan"]["idle"]
    # A new server has no record of the colour that serves on another host; a colour on hold has not passed its gate.
    gone = not job["plan"]["serving_runs"] and not (host.place(job, leaves) / "hold").exists()
    # Its replicas are those of the fragment: the inventory may want another number by now.
    known = [one for one in host.replicas(job, stays) if f"worker-{one}" in job["plan"]["recipes"]]
    if job["plan"]["idle_runs"] and (gone or (job["plan"]["watching"] and _watch(job, known or [stays]))):
        stays, leaves = leaves, stays
    return {"stays": stays, "leaves": leaves}


def check(job: host.Job) -> None:
    """Refuse the colour that serves if it is not healthy within a minute."""
    serving = job["plan"]["serving"]
    for one in host.wanted(job, serving):
        name = host.container(job, one)
        if fault := fault_within(name, 60):
            doctor = f"docker exec {name} python3 -m worker doctor"
            host.refuse(f"{one} serves on {job['host']} what is wanted, but {fault}. Ask its doctor: {doctor}")


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
        silent = silent + 1 if ready and host.ask(ready, seconds=3)[0] != 200 else 0
        if silent == _SILENT_LOOKS:
            fault = f"the container was not ready for {_SILENT_LOOKS} looks"
        if fault or (health == "healthy" and not ready):
            return fault
        time.sleep(1)
    return "" if ready else f"the container was not healthy within {seconds} s"


def _watch(job: host.Job, names: list[str]) -> str:
    """Watch all replicas at the same time, because each watch lasts `watch_seconds`."""

    def look(one: str) -> str:
        return fault_within(host.container(job, one), job["watch_seconds"], f"{host.url(job, one)}/ready")

    with ThreadPoolExecutor(len(names)) as pool:
        faults = zip(names, pool.map(look, names), strict=True)
        return next((named(one, fault) for one, fault in faults if fault), "")


def named(replica: str, fault: str) -> str:
    """Return the fault with the name of a replica that is not the only one or the first."""
    return f"{replica}: {fault}" if "-" in replica else fault


def _look(name: str) -> list[str]:
    return host.run("docker", "inspect", "--format", _FORMAT, name).stdout.split() or [""] * 4


def _end(state: str, code: str, *, again: bool) -> str:
    if not state:
        return "the container is gone"
    if state in ("exited", "dead", "restarting"):
        return f"the container ended with exit code {code}"
    return f"the container ended and was started again (exit code {code})" if again else ""


def _check_doctor(container: str) -> None:
    doctor = host.run("docker", "exec", container, "python3", "-m", "worker", "doctor", seconds=120)
    if doctor.returncode:
        lines = [host.flat(line) for line in (doctor.stdout + doctor.stderr).splitlines() if line.strip()]
        faults = [line for line in lines if line.startswith("fail")] or lines[-3:] or ["no answer"]
        host.refuse(f"its doctor found a fault: {'; '.join(faults)}")
