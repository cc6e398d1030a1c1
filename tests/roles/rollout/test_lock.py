"""The deploy lock: one play at a time, whatever became of the one before."""

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


def job(path: Path, play: dict[str, str], instead_of: dict[str, str] | None = None) -> host.Job:
    return {"lock": str(path), "server": "here", "ticket": play, "instead_of": instead_of or {}}


def another(**changes: str) -> dict[str, str]:
    """Return the ticket of a play on another machine."""
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1900))
    return {"host": "elsewhere", "machine": "1", "who": "alice", "play": "1 Mon", "when": then, "why": "v9", **changes}


@pytest.fixture
def mine() -> dict[str, str]:
    """The ticket of a play that is the parent of this process."""
    return lock.ticket(str(os.getpid()), "roll out v2")


def test_lock_is_taken_once_and_released(path: Path, mine: dict[str, str]) -> None:
    assert lock.take(job(path, mine)) == {}
    assert lock.take(job(path, mine)) == {}, "the next host of the same play"
    assert lock.take(job(path, another())) == mine
    lock.release(job(path, another()))
    assert path.exists(), "another play released it"
    lock.release(job(path, mine))
    assert not path.exists()
    lock.release(job(path, mine))


def test_play_that_runs_on_this_machine_is_respected(mine: dict[str, str]) -> None:
    assert "by " in lock.judge(mine)
    assert "roll out v2. Nothing was changed" in lock.judge(mine)


def test_play_that_has_ended_on_this_machine_is_not_respected(mine: dict[str, str]) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert lock.judge({**mine, "play": f"{ended.pid} {mine['play'].partition(' ')[2]}"}) == ""
    assert lock.judge({**mine, "play": f"{os.getpid()} Mon Jan 1 00:00:00 2024"}) == "", "the number was used again"


def test_play_of_another_machine_is_respected_and_said_to_be_stale() -> None:
    assert lock.judge(another()) == (
        f"Locked since {another()['when']} (31 minutes, stale) by alice on elsewhere: v9. Nothing was changed. "
        "Wait for that play; if it is dead, add -e break_lock=true"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"when": 3}', '{"when": "yesterday", "play": "1"}'])
def test_lock_that_cannot_be_read_is_respected(path: Path, mine: dict[str, str], content: str) -> None:
    path.write_text(content)
    held = lock.take(job(path, mine))
    assert "by somebody on ?" in lock.judge(held)
    assert lock.take(job(path, mine, held)) == {}, "on request it is broken"
    assert json.loads(path.read_text()) == mine


def test_two_plays_that_find_the_same_dead_play_do_not_both_take_over(path: Path, mine: dict[str, str]) -> None:
    lock.take(job(path, another()))
    held = lock.take(job(path, mine))
    other = another(play="2 Tue", who="bob")
    assert lock.take(job(path, other, held)) == {}
    assert lock.take(job(path, mine, held)) == other


def test_plays_at_once_agree_on_one(path: Path) -> None:
    jobs = [json.dumps(job(path, another(play=f"{number} Mon"))) for number in range(8)]
    plays = [
        subprocess.Popen([sys.executable, PROGRAMS / "lock.py", "take"], text=True, stdin=-1, stdout=-1) for _ in jobs
    ]
    for one, text in zip(plays, jobs, strict=True):
        one.stdin.write(text)  # type: ignore[union-attr]
        one.stdin.close()  # type: ignore[union-attr]
    answers = [one.stdout.read().strip() for one in plays]  # type: ignore[union-attr]
    assert [one.wait() for one in plays] == [0] * len(plays)
    assert answers.count("{}") == 1


def test_server_without_a_folder_was_never_provisioned(tmp_path: Path, mine: dict[str, str]) -> None:
    with pytest.raises(SystemExit, match="here was never provisioned: run `make deploy`"):
        lock.take(job(tmp_path / "missing/rollout.lock", mine))


def test_full_disk_leaves_no_lock(path: Path, mine: dict[str, str], full_disk: Any) -> None:
    with full_disk, pytest.raises(SystemExit, match=r"rollout.lock cannot be written: No space left on device"):
        lock.take(job(path, mine))
    assert list(path.parent.iterdir()) == []
