"""The host: its engine, its files, and the names of what belongs to a colour."""

import fcntl
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

Job = dict[str, Any]
_ENGINE_LOOKS = 30


def refuse(sentence: str) -> NoReturn:
    """End the program with exit code 1 and one sentence on standard error."""
    raise SystemExit(flat(sentence))


def flat(text: str) -> str:
    return " ".join(text.split())


def run(*command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a program; the exit code is 127 if it is missing, 124 if it does not end in time."""
    text: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "errors": "replace"}
    try:
        return subprocess.run(command, check=False, timeout=seconds, **text)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127 if isinstance(error, OSError) else 124, "", str(error))


def inspect(*names: str) -> list[Any]:
    """Return the engine's records of the containers or images of these names. Wait for an engine that restarts."""
    for _ in range(_ENGINE_LOOKS):
        found = run("docker", "inspect", *names)
        if found.returncode in (0, 127) or "o such" in found.stderr:
            return list(json.loads(found.stdout or "[]"))
        time.sleep(1)
    refuse(f"the engine does not answer: {found.stderr}")


def ask(url: str, body: dict[str, object] | None = None, seconds: float = 5) -> tuple[int, str]:
    """Return the status, 0 without an answer, and the text of the answer or of the failure."""
    headers = {"Content-Type": "application/json", "X-Request-Id": "rollout-smoke-request"}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)  # noqa: S310
    # The proxy of the host's environment cannot reach the containers.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(error)


def fields(text: str) -> dict[str, Any]:
    """Return the fields of a JSON object, none if the text is something else."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}


def read(path: str | Path) -> str:
    """Return the text of a file, nothing if the file is missing."""
    return Path(path).read_text() if Path(path).exists() else ""


def write(path: str | Path, text: str, mode: int = 0o644, owner: int = 0) -> bool:
    """Replace a file in one step, so that a full disk leaves the old one. Return True if the text is new."""
    target, new = Path(path), Path(f"{path}.new")
    if target.exists() and target.read_text() == text:
        return False
    try:
        new.unlink(missing_ok=True)
        new.touch(0o600)
        with new.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if os.geteuid() == 0:
            os.chown(new, owner, 0)
        new.chmod(mode)
        new.replace(target)
    except OSError as error:
        new.unlink(missing_ok=True)
        refuse(f"{target} cannot be written: {error.strerror}")
    return True


@contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """Wait until no other program works in the folder: the program of a killed play goes on."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Return True while another program holds the lock of this file."""
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def replicas(job: Job, colour: str) -> list[str]:
    """Return the names that the replicas of a colour may have: blue, blue-2, ..."""
    return [name for name in job["colours"] if name.partition("-")[0] == colour]


def wanted(job: Job, colour: str) -> list[str]:
    """Return the replicas of a colour that the inventory wants."""
    return [name for name in replicas(job, colour) if f"worker-{name}" in job["services"]]


def container(job: Job, replica: str) -> str:
    return f"{job['project']}-worker-{replica}-1"


def url(job: Job, replica: str) -> str:
    return f"http://{job['colours'][replica]['address']}:8000"


def place(job: Job, replica: str) -> Path:
    """Return the folder of a colour, which each of its containers sees as /run/rollout."""
    return Path(job["folder"], "worker", replica.partition("-")[0])


def leftovers(job: Job, colour: str) -> list[Path]:
    """Return the files of a colour that must not outlive its container."""
    return [*place(job, colour).glob("*"), *Path(job["secrets"]).glob(f"worker-{colour}.*")]
