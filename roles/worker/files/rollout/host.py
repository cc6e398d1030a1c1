"""The host as the programs beside this file see it: a job on standard input, the engine, files written in one step."""

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

Job = dict[str, Any]


def answer(programs: dict[str, Callable[[Job], Any]]) -> None:
    """Run the program that the first argument names with the job; print its answer, or end with one sentence."""
    try:
        print(json.dumps(programs[sys.argv[1]](json.load(sys.stdin))))
    except OSError as error:
        refuse(f"{error.filename or sys.argv[1]}: {error.strerror or error}")
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        refuse(f"{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])} cannot read its input: {error!r}")


def refuse(sentence: str) -> NoReturn:
    """End the program with exit code 1 and one sentence on standard error."""
    raise SystemExit(flat(sentence))


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def run(*command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a program; the exit code is 127 if it is missing, 124 if it does not end in time."""
    try:
        return subprocess.run(  # noqa: S603
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127 if isinstance(error, OSError) else 124, "", str(error))


def read(path: str | Path) -> str:
    """Return the text of a file, or nothing if there is no such file."""
    return Path(path).read_text() if Path(path).exists() else ""


def write(path: str | Path, text: str, mode: int = 0o644, owner: int = 0) -> bool:
    """Replace a file in one step unless it has the text; a full disk leaves the old one. Return True for a change."""
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
    """Wait until no other program works in the folder: the one of a play that was killed goes on."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def inspect(*names: str) -> list[Any]:
    """Return what the engine knows of the containers or images of these names."""
    found = run("docker", "inspect", *names)
    if found.returncode == 127 or re.search("[Nn]o such", found.stderr) or not found.returncode:
        return list(json.loads(found.stdout or "[]"))
    refuse(f"the engine does not answer: {found.stderr}")


def container(job: Job, colour: str) -> str:
    return f"{job['project']}-worker-{colour}-1"


def url(job: Job, colour: str) -> str:
    return f"http://{job['colours'][colour]['address']}:8000"


def leftovers(job: Job, colour: str) -> list[Path]:
    """Return the files of a colour that must not outlive its container."""
    return [*place(job, colour).glob("*"), *Path(job["secrets"]).glob(f"worker-{colour}.*")]


def place(job: Job, colour: str) -> Path:
    """Return the folder of a colour, which its container sees as /run/rollout."""
    return Path(job["folder"], "worker", colour)
