"""The gate that the new colour has to pass: asked directly, past nginx, before any customer has seen it."""

import json
import time
import urllib.error
import urllib.request

import host

_LOOKS = 3


def gate(job: host.Job) -> None:
    """Refuse the new colour with what is wrong with it."""
    url = host.url(job, job["plan"]["new"])
    _check_ready(url)
    _check_doctor(host.container(job, job["plan"]["new"]))
    _check_health(url)
    _check_size(url, job["photo"])


def ask(url: str, body: dict[str, object] | None = None, seconds: float = 5) -> tuple[int, str]:
    """Return the status, 0 if there was no answer, and the text of the answer or of the failure."""
    headers = {"Content-Type": "application/json", "X-Request-Id": "rollout-smoke-request"}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)  # noqa: S310
    # A proxy of the host's environment knows nothing of the containers.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(error)


def _check_ready(url: str) -> None:
    seen = []
    for look in range(_LOOKS):
        time.sleep(1 if look else 0)
        seen.append(ask(f"{url}/ready")[0])
    if seen != [200] * _LOOKS:
        host.refuse(f"it was not ready three times in a row: {' '.join(map(str, seen))}")


def _check_doctor(container: str) -> None:
    doctor = host.run("docker", "exec", container, "python3", "-m", "worker", "doctor", seconds=120)
    if doctor.returncode:
        lines = [host.flat(line) for line in (doctor.stdout + doctor.stderr).splitlines() if line.strip()]
        faults = [line for line in lines if line.startswith("fail")] or lines[-3:] or ["no answer"]
        host.refuse(f"its doctor found a fault: {'; '.join(faults)}")


def _check_health(url: str) -> None:
    status, text = ask(f"{url}/health")
    try:
        health = dict(json.loads(text)) if status == 200 else {}
    except (ValueError, TypeError):
        health = {}
    if not (health.get("model_loaded") and health.get("redis_connected")):
        host.refuse(f"its /health says: {text or 'no answer'}")


def _check_size(url: str, photo: str) -> None:
    """Without a photo of our own, ask with an address that the worker must refuse: all is tried but the download."""
    body: dict[str, object] = {"image_url": photo or "http://127.0.0.1/rollout.jpg", "height_cm": 175}
    status, text = ask(f"{url}/estimate-body", body, seconds=30)
    expected = 200 if photo else 400
    if status != expected:
        host.refuse(f"/estimate-body answered {status or 'nothing'} instead of {expected}: {text[:300]}")


if __name__ == "__main__":
    host.answer({"gate": gate})
