"""The words of the chaos tests: a load of try-ons of every kind, a worker that can be hurt, and the books.

A scenario reads: queue a load, let workers run, break something, wait for `ended`, and let `balance` count what the
database's triggers saw. `balance` alone decides; it trusts neither the worker nor the ledgers that the worker writes.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self
from uuid import uuid4

from tests.integration.scrape import scrape
from tests.integration.worker_process import ENDED, ROOT, WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import QUEUE, Queued

#: `CHAOS=full` is `make chaos`; without it the bounded version runs, as a part of `make test`.
FULL = os.environ.get("CHAOS") == "full"

#: Production's behaviour with a tenth of its waiting times (defaults: 30, 10, 120, 310 and 10 s).
LEASE_SECONDS = 3.0
GRACE_SECONDS = 5.0
QUICK = {
    "WORKER_CONCURRENCY": "8",
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "SWEEP_INTERVAL_SECONDS": "0.5",
    "ORPHAN_GRACE_SECONDS": str(GRACE_SECONDS),
    "DRAIN_TIMEOUT_SECONDS": "30",
    "RATE_LIMIT_RETRY_SECONDS": "1",
}
DEAD = f"{QUEUE}:dead"
SETTLEMENTS = "wearon:settlements"
PAYERS = ("user", "store", "shopper", "store for a shopper", "overage")

#: Printed at the end of the run: title -> rows.
TABLES: dict[str, list[dict[str, object]]] = defaultdict(list)


class Worker(WorkerProcess):
    """`wearon-worker run` in its own process group, with everything that can happen to it."""

    #: All of this run, for the report of a failed test.
    made: ClassVar[list["Worker"]] = []

    def __init__(self, sandbox: Sandbox, **environment: str) -> None:
        super().__init__(sandbox, **{**QUICK, **environment})
        self.made.append(self)
        self._last_words = ""

    def start(self, *, ready: bool = True) -> Self:
        """Start it, with a guard that ends the whole group when this process is killed and cannot do it itself."""
        super().start(ready=False)
        self._guard = subprocess.Popen(
            ["sh", "-c", f"read _; kill -9 -- -{self.process.pid}"], stdin=subprocess.PIPE, start_new_session=True
        )
        if ready:
            wait_for(self.is_ready, 60, lambda: f"worker is not ready:\n{self.output()[-3000:]}")
        return self

    @property
    def pool(self) -> int:
        """Process id of the Celery process."""
        (pid,) = self.children()
        return pid

    def kill(self) -> None:
        """SIGKILL for the whole group, also when the container's first process is gone already: power off."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = 30) -> int:
        """The exit code."""
        code = super().wait(seconds)
        self._guard.kill()
        self._guard.wait()
        return code

    @property
    def ended(self) -> bool:
        """Whether its test is done with it."""
        return bool(self._last_words)

    def output(self) -> str:
        """Everything that it has written, also when it is done with."""
        return self._last_words or super().output()

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._last_words = super().output()
        super().__exit__(*error)

    def freeze(self) -> None:
        """SIGSTOP for the whole group: a host that hangs."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on as if nothing had happened."""
        os.killpg(self.process.pid, signal.SIGCONT)

    @contextmanager
    def frozen(self, seconds: float) -> Iterator[None]:
        """Frozen for that long, and for as long as the block takes."""
        self.freeze()
        until = time.monotonic() + seconds
        try:
            yield
            time.sleep(max(0.0, until - time.monotonic()))
        finally:
            self.thaw()

    def reason(self) -> str:
        """The last line of a worker that ended by itself."""
        return str(self.logs("worker_ended")[-1]["reason"])


@dataclass(frozen=True)
class TryOn:
    """One session of the load: who pays for it, and the mark by which its calls and requests are known."""

    queued: Queued
    payer: str
    mark: str
    email: str | None = None

    @property
    def id(self) -> str:
        return self.queued.session_id

    @property
    def account(self) -> tuple[str, str, str | None] | None:
        """Payer, owner and address as the balance trigger names them; None: no balance moves."""
        if self.payer == "overage":
            return None
        kind = {"user": "user", "shopper": "shopper"}.get(self.payer, "store")
        return kind, self.queued.owner_id, self.email.lower() if kind == "shopper" and self.email else None

    @property
    def path(self) -> str:
        """Where the contract wants the picture."""
        owner = self.queued.owner_id
        folder = f"generated/{owner}" if self.queued.channel == "b2c" else f"stores/{owner}/generated"
        return f"{folder}/{self.id}.jpg"


class Load:
    """Try-ons of a few owners, in turn of every kind that can be paid for."""

    def __init__(self, sandbox: Sandbox, seed: int = 0) -> None:
        self._sandbox = sandbox
        self._random = random.Random(seed)
        self._users = [sandbox.producer.user(balance=100) for _ in range(2)]
        self._stores = [sandbox.producer.store(balance=100) for _ in range(2)]
        self._emails = {store: sandbox.producer.shopper(store, "Shopper@Example.com", 100) for store in self._stores}
        self.all: list[TryOn] = []

    def one(self, payer: str = "user", *, push: bool = True, images: Sequence[str] = ()) -> TryOn:
        """One try-on, queued as the product does it."""
        mark = f"mark-{uuid4().hex}"
        producer, rest = self._sandbox.producer, {"prompt": mark, "push": push, "images": images}
        if payer == "user":
            made = TryOn(producer.b2c(self._random.choice(self._users), **rest), payer, mark)
        else:
            store = self._random.choice(self._stores)
            email = self._emails[store] if "shopper" in payer else None
            paid_by = payer if payer in ("shopper", "overage") else "store"
            made = TryOn(producer.b2b(store, paid_by=paid_by, shopper_email=email, **rest), payer, mark, email)
        self.all.append(made)
        return made

    def many(self, count: int, *, push: bool = True) -> list[TryOn]:
        """That many, of all kinds."""
        return [self.one(PAYERS[index % len(PAYERS)], push=push) for index in range(count)]


@dataclass
class Books:
    """What became of a load. `problems` is empty when nothing was lost, doubled or off."""

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
        """For a table."""
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


def ended(sandbox: Sandbox, load: Iterable[TryOn], seconds: float) -> None:
    """Wait until every session of the load is completed or failed, and nothing is left in Redis for it."""
    ids = [made.id for made in load]
    sql = (
        "select id::text, status from generation_sessions union all "
        "select id::text, status from store_generation_sessions"
    )

    def open_ones() -> list[str]:
        found = {row["id"]: row["status"] for row in sandbox.database.fetch(sql)}
        return [f"{name} is {found.get(name)}" for name in ids if found.get(name) not in ENDED]

    wait_for(lambda: not open_ones(), seconds, lambda: f"after {seconds:g} s: {open_ones()}")


def statuses(sandbox: Sandbox, load: Iterable[TryOn]) -> Counter[str]:
    """How many of the load are in which status now."""
    return Counter(sandbox.session(made.queued.channel, made.id)["status"] for made in load)


def reached(sandbox: Sandbox, load: Iterable[TryOn], status: str, count: int, seconds: float = 20) -> None:
    """Wait until that many of the load have (at least once) been in that status."""
    made = list(load)

    def there() -> int:
        return sum(status in sandbox.statuses(one.id) for one in made)

    wait_for(lambda: there() >= count, seconds, lambda: f"{there()} of {count} were {status} in {seconds:g} s")


def struck(remote: Any, fault: int, times: int = 1, seconds: float = 20) -> None:
    """Wait until a fault has hit that many requests."""

    def hits() -> int:
        return sum(rule["hits"] for rule in remote.faults() if rule["id"] == fault)

    wait_for(lambda: hits() >= times, seconds, lambda: f"fault {fault} hit {hits()} times in {seconds:g} s")


def counted(*workers: Worker) -> Counter[str]:
    """What these workers, while they live, say that they have settled, by how it ended."""
    seen = [scrape(worker.url) for worker in workers]
    name = "wearon_generations_total"
    return Counter({end: sum(int(one.value(name, outcome=end)) for one in seen) for end in ENDED})


def dead_letters(sandbox: Sandbox) -> list[dict[str, Any]]:
    """What is on the dead-letter list."""
    return [json.loads(letter) for letter in sandbox.redis.lrange(DEAD, 0, -1)]


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie nobody has waited for yet counts)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def report(title: str, *rows: dict[str, object]) -> None:
    """Rows for the table of that title."""
    TABLES[title].extend(rows)


@contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """Do something in the background while the block runs; what it raises is raised here."""
    from threading import Thread

    problems: list[BaseException] = []

    def work() -> None:
        try:
            action()
        except BaseException as error:
            problems.append(error)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
    if problems:
        raise problems[0]
