"""The books of a load, counted by what the database's triggers, the image API and the storage saw.

`balance` alone decides; it trusts neither the worker nor the ledgers that the worker writes.
"""

import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.load import TryOn
from tests.integration.worker_process import ENDED, ROOT
from tests.sandbox import Sandbox


@dataclass
class Books:
    """The outcome of a load. `problems` is empty when nothing was lost, doubled or off."""

    sessions: int = 0
    completed: int = 0
    failed: int = 0
    #: Failed although OpenAI had answered with a picture.
    paid_but_failed: int = 0
    lost: int = 0
    doubled: int = 0
    credits_off: int = 0
    problems: list[str] = field(default_factory=list)

    def row(self) -> dict[str, object]:
        """The counts as a row of a table."""
        return {key: value for key, value in asdict(self).items() if key != "problems"}


def balance(sandbox: Sandbox, load: Iterable[TryOn], *, calls_each: int = 1) -> Books:
    """Count the load by what the triggers, the image API and the storage saw; fails when anything is off.

    `calls_each` is how many calls one session may have made: more than one only where OpenAI itself fails.
    """
    books = _Count(sandbox, list(load), calls_each).books()
    assert not books.problems, "\n".join(books.problems)
    audit(sandbox)
    return books


def audit(sandbox: Sandbox) -> None:
    """The worker's own proof of the books has to agree."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "audit"],
        cwd=ROOT,
        env={**os.environ, **sandbox.env()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class _Count:
    """One look at everything, then one judgement per session and per account."""

    def __init__(self, sandbox: Sandbox, load: list[TryOn], calls_each: int) -> None:
        self._load = load
        self._calls_each = calls_each
        self._statuses: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for row in sandbox.database.fetch("select * from witness.status_changes order by id"):
            self._statuses[str(row["session_id"])].append((row["new_status"], row["transaction"]))
        self._credits: dict[int, list[tuple[Any, int]]] = defaultdict(list)
        for row in sandbox.database.fetch("select * from witness.balance_changes order by id"):
            account = (row["payer"], str(row["owner_id"]), row["shopper_email"])
            self._credits[row["transaction"]].append((account, row["delta"]))
        self._calls = Counter[str]()
        self._answered = Counter[str]()
        for call in sandbox.calls():
            self._calls[call.prompt] += 1
            self._answered[call.prompt] += call.status == 200
        self._stored = set(sandbox.objects())
        self._books = Books(sessions=len(load))

    def books(self) -> Books:
        for made in self._load:
            self._judge(made)
        self._judge_accounts()
        return self._books

    def _judge(self, made: TryOn) -> None:
        statuses = self._statuses[made.id]
        ends = [(status, transaction) for status, transaction in statuses if status in ENDED]
        status, transaction = statuses[-1]
        self._books.completed += status == "completed"
        self._books.failed += status == "failed"
        self._books.paid_but_failed += status == "failed" and self._answered[made.mark] > 0
        self._wrong("lost", status not in ENDED, made, f"ended nowhere: {statuses}")
        twice = len(ends) > 1 or self._calls[made.mark] > self._calls_each or self._answered[made.mark] > 1
        self._wrong("doubled", twice, made, f"{self._calls[made.mark]} calls, statuses {statuses}")
        unstored = status == "completed" and made.path not in self._stored
        self._wrong("lost", unstored, made, "completed without a picture")
        due = [(made.account, 1)] if status == "failed" and made.account else []
        given = self._credits[transaction]
        self._wrong("credits_off", status in ENDED and given != due, made, f"{status}, got {given} instead of {due}")

    def _judge_accounts(self) -> None:
        """Each account is down by the number of its completed sessions, whichever way that came about."""
        due = Counter[Any]()
        for made in self._load:
            due[made.account] -= self._statuses[made.id][-1][0] != "failed"
        moved = Counter[Any]()
        for account, delta in (change for changes in self._credits.values() for change in changes):
            moved[account] += delta if abs(delta) == 1 else 0  # what an account began with is more
        for account in {*due, *moved} - {None}:
            if moved[account] != due[account]:
                self._books.credits_off += 1
                self._books.problems.append(f"{account} moved by {moved[account]} instead of {due[account]}")

    def _wrong(self, count: str, is_wrong: bool, made: TryOn, what: str) -> None:
        if is_wrong:
            setattr(self._books, count, getattr(self._books, count) + 1)
            self._books.problems.append(f"{count}: {made.payer} session {made.id}: {what}")
