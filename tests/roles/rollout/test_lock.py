"""The deploy lock: one play at a time, whatever became of the one before."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import host
import lock
import pytest

from tests.roles.rollout.conftest import PROGRAMS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rollout.lock"


def job(path: Path, play: dict[str, str], replace: str | None = None) -> host.Job:
    """Return the job of a play that may replace the lock with this text."""
    return {
        "lock": str(path),
        "server": "here",
        "ticket": play,
        "found": replace or "",
        "replace": replace is not None,
        "new": False,
        "log": str(path.with_name("log")),
        "result": "ok",
    }


def refusal(job: host.Job) -> str:
    with pytest.raises(SystemExit) as refused:
        lock.take(job)
    return str(refused.value)


def another(**changes: str) -> dict[str, str]:
    """Return the ticket of a play on another machine."""
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1900))
    return {"host": "elsewhere", "machine": "1", "who": "alice", "play": "1 Mon", "when": then, "why": "v9", **changes}


@pytest.fixture
def mine() -> dict[str, str]:
    """The ticket of a play that is the parent of this process."""
    return lock.ticket(str(os.getpid()), "roll out v2")


def test_lock_is_taken_once_and_released(path: Path, mine: dict[str, str]) -> None:
    lock.take(job(path, mine))
    lock.take(job(path, mine))  # the next host of the same play
    assert "roll out v2. Nothing was changed" in refusal(job(path, another()))
    lock.release(job(path, another()))
    assert path.exists(), "another play released the lock"
    lock.release(job(path, mine))
    assert not path.exists()
    lock.release(job(path, mine))


def test_play_that_runs_on_this_machine_is_respected(mine: dict[str, str]) -> None:
    assert not lock.ended(json.dumps(mine))


def test_play_that_has_ended_on_this_machine_is_not_respected(mine: dict[str, str]) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert lock.ended(json.dumps({**mine, "play": f"{process.pid} {mine['play'].partition(' ')[2]}"}))
    reused = {**mine, "play": f"{os.getpid()} Mon Jan 1 00:00:00 2024"}
    assert lock.ended(json.dumps(reused)), "the number was used again"


def test_play_of_another_machine_is_respected_and_said_to_be_stale(path: Path, mine: dict[str, str]) -> None:
    assert not lock.ended(json.dumps(another()))
    path.write_text(json.dumps(another()))
    assert refusal(job(path, mine)) == (
        f"Locked since {another()['when']} (31 minutes, stale) by alice on elsewhere: v9. Nothing was changed. "
        "Wait for that play; if it is dead, add -e break_lock=true"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"when": 3}', '{"when": "yesterday", "play": "1"}'])
def test_lock_that_cannot_be_read_is_respected(path: Path, mine: dict[str, str], content: str) -> None:
    path.write_text(content)
    assert not lock.ended(content)
    assert "by unknown on ?" in refusal(job(path, mine))
    lock.take(job(path, mine, content))  # on request the lock is broken
    assert json.loads(path.read_text()) == mine


def test_two_plays_that_find_the_same_dead_play_do_not_both_take_over(path: Path, mine: dict[str, str]) -> None:
    lock.take(job(path, another()))
    found = path.read_text()
    lock.take(job(path, another(play="2 Tue", who="bob"), found))
    assert "by bob on" in refusal(job(path, mine, found))


def test_free_lock_is_taken_when_none_was_found(path: Path, mine: dict[str, str]) -> None:
    """The holder released the lock between the look and the request to break it."""
    lock.take(job(path, mine, "{}"))
    assert json.loads(path.read_text()) == mine


def test_plays_at_once_agree_on_one(path: Path) -> None:
    jobs = [json.dumps(job(path, another(play=f"{number} Mon"))) for number in range(8)]
    plays = [subprocess.Popen([sys.executable, "-B", PROGRAMS, "take"], text=True, stdin=-1, stderr=-1) for _ in jobs]
    for one, text in zip(plays, jobs, strict=True):
        one.stdin.write(text)  # type: ignore[union-attr]
        one.stdin.close()  # type: ignore[union-attr]
    assert sorted(one.wait() for one in plays) == [0] + [1] * 7
    assert all("Locked since" in one.stderr.read() for one in plays if one.returncode)  # type: ignore[union-attr]


def test_server_that_drains_for_a_reboot_is_left_alone(path: Path, mine: dict[str, str]) -> None:
    with path.with_name("reboot.lock").open("w") as reboot:
        fcntl.flock(reboot, fcntl.LOCK_EX)
        assert "here drains its worker for a reboot. Nothing was changed:" in refusal(job(path, mine))
        assert not path.exists()
    lock.take(job(path, mine))  # the reboot failed, or is over


def test_server_without_a_folder_was_never_provisioned(tmp_path: Path, mine: dict[str, str]) -> None:
    with pytest.raises(SystemExit, match="here was never provisioned: run `make deploy`"):
        lock.take(job(tmp_path / "missing/rollout.lock", mine))


def test_full_disk_leaves_no_lock(path: Path, mine: dict[str, str], full_disk: Any) -> None:
    with full_disk, pytest.raises(SystemExit, match=r"rollout.lock cannot be written: No space left on device"):
        lock.take(job(path, mine))
    assert list(path.parent.iterdir()) == []
