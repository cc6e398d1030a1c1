"""The commands that clients send to Redis and those that scripts call there, as MONITOR shows them."""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

from worker.generation import keys

#: Of the producer, which is no part of the worker.
_NOT_COUNTED = f"LPUSH {keys.QUEUE}"
_SCRIPTS = ("EVALSHA", "EVAL")


@dataclass(frozen=True)
class Count:
    """Commands by their name and first key; `called` are those of scripts."""

    seconds: float
    by_name: Counter[str] = field(default_factory=Counter)
    called: int = 0

    @property
    def sent(self) -> int:
        return sum(self.by_name.values())

    @property
    def all(self) -> int:
        return self.sent + self.called

    def less(self, rest: "Count", share: float) -> "Count":
        """The rest without a share of another count."""
        left = Counter({name: max(0, round(many - share * rest.by_name[name])) for name, many in self.by_name.items()})
        return Count(self.seconds, left, max(0, round(self.called - share * rest.called)))

    def by_command(self) -> dict[str, int]:
        """The most frequent ones first."""
        return {name: many for name, many in self.by_name.most_common() if many}


class Commands:
    """A context manager that watches one Redis."""

    def __init__(self, port: int) -> None:
        self._redis = Redis(port=port, socket_timeout=None)
        #: By a script or not, and the command.
        self._seen: list[tuple[bool, str]] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._declared: set[str] = set()
        #: Scripts that were run, and the keys that they used and did not declare.
        self.scripts = 0
        self.undeclared: set[str] = set()

    def during(self, action: Callable[[], object]) -> Count:
        """Count the commands while `action` runs."""
        first, begun = len(self._seen), monotonic()
        action()
        seen = self._seen[first:]
        sent = [name for by_script, name in seen if not by_script]
        return Count(monotonic() - begun, Counter(sent), len(seen) - len(sent))

    def __enter__(self) -> Self:
        redis: Any = self._redis  # redis-py has no types here
        self._monitor = redis.monitor().__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()

    def _watch(self) -> None:
        with suppress(RedisError, OSError, ValueError):
            while True:
                told: dict[str, Any] = self._monitor.next_command()
                self._note(told["client_type"] == "lua", told["command"].split())

    def _note(self, by_script: bool, words: list[str]) -> None:
        name, *rest = words
        described = _described(name.upper(), rest)
        if by_script:
            self.undeclared |= {word for word in rest if word.startswith("wearon:")} - self._declared
        elif name.upper() in _SCRIPTS:
            # A script runs alone: what it calls follows at once.
            self.scripts += 1
            self._declared = {word for word in rest if word.startswith("wearon:")}
        if described != _NOT_COUNTED:
            self._seen.append((by_script, described))


def _described(name: str, words: list[str]) -> str:
    """The command with its first key; what differs each time becomes a star."""
    # EVAL brings its script along, whose words are no keys.
    key = "" if name == "EVAL" else next(iter(words[2:] if name == "EVALSHA" else words), "")
    parts = [part if len(part) < 20 and not any(map(str.isdigit, part)) else "*" for part in key.split(":")]
    return f"{name} {':'.join(parts)}" if key.startswith("wearon") else name
