"""A load of try-ons of every kind, the waits for its progress, and the tables of the run."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.integration.worker_process import ENDED, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import QUEUE, Queued

DEAD = f"{QUEUE}:dead"
SETTLEMENTS = "wearon:settlements"
PAYERS = ("user", "store", "shopper", "store for a shopper", "overage")
#: Printed at the end of the run: title -> rows.
TABLES: dict[str, list[dict[str, object]]] = defaultdict(list)


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
        """The path of the picture that the contract demands."""
        owner = self.queued.owner_id
        folder = f"generated/{owner}" if self.queued.channel == "b2c" else f"stores/{owner}/generated"
        return f"{folder}/{self.id}.jpg"


class Load:
    """Try-ons of a few owners, in turn of every kind that can be paid for."""

    def __init__(self, sandbox: Sandbox, seed: int = 0, balance: int = 100) -> None:
        self._sandbox = sandbox
        self._random = random.Random(seed)
        self._users = [sandbox.producer.user(balance) for _ in range(2)]
        self._stores = [sandbox.producer.store(balance) for _ in range(2)]
        self._emails = {
            store: sandbox.producer.shopper(store, "Shopper@Example.com", balance) for store in self._stores
        }
        self.all: list[TryOn] = []

    def one(self, payer: str = "user", *, push: bool = True, images: Sequence[str] = ()) -> TryOn:
        """Make one try-on as the product does."""
        mark = f"mark-{uuid4().hex}"
        producer = self._sandbox.producer
        rest: dict[str, Any] = {"prompt": mark, "push": push, "images": images}
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
        """Make `count` try-ons of all kinds."""
        return [self.one(PAYERS[index % len(PAYERS)], push=push) for index in range(count)]


def ended(sandbox: Sandbox, load: Iterable[TryOn], seconds: float) -> None:
    """Wait until every session of the load is completed or failed, and nothing is left in Redis for it."""
    ids = [made.id for made in load]

    def open_ones() -> list[str]:
        found = sandbox.status_of_each()
        return [f"{name} is {found.get(name)}" for name in ids if found.get(name) not in ENDED]

    wait_for(lambda: not open_ones(), seconds, lambda: f"after {seconds:g} s: {open_ones()}")


def statuses(sandbox: Sandbox, load: Iterable[TryOn]) -> Counter[str]:
    """The number of sessions of the load in each status."""
    found = sandbox.status_of_each()
    return Counter(found[made.id] for made in load)


def reached(sandbox: Sandbox, load: Iterable[TryOn], status: str, count: int, seconds: float = 20) -> None:
    """Wait until `count` sessions of the load have been in that status."""
    ids = [made.id for made in load]
    sql = "select count(distinct session_id) from witness.status_changes where new_status = $1 and session_id = any($2)"

    def there() -> int:
        return int(sandbox.database.value(sql, status, ids))

    wait_for(lambda: there() >= count, seconds, lambda: f"{there()} of {count} were {status} in {seconds:g} s")


def struck(remote: Any, fault: int, times: int = 1) -> None:
    """Wait until a fault has hit that many requests."""

    def hits() -> int:
        return sum(rule["hits"] for rule in remote.faults() if rule["id"] == fault)

    wait_for(lambda: hits() >= times, 20, lambda: f"fault {fault} hit {hits()} times in 20 s")


def dead_letters(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The entries of the dead-letter list."""
    return [json.loads(letter) for letter in sandbox.redis.lrange(DEAD, 0, -1)]


def report(title: str, *rows: dict[str, object]) -> None:
    """Rows for the table of that title."""
    TABLES[title].extend(rows)
