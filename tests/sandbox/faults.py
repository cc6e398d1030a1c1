"""Programmable misbehaviour, shared by the servers: which requests it hits, how often, and for how long."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from time import monotonic
from typing import Any

from starlette.types import Receive, Scope


@dataclass
class Fault:
    """One rule. `times` counts down (None: always), `seconds` is how long it lives, `delay` comes before all else.

    `on` is a glob on the operation (`rpc/fail_generation`, `storage/*`, `images/edits`), `contains` a text in the
    prompt or path, `model` the model that was asked for. `options` belong to the kind.
    """

    kind: str
    on: str = "*"
    times: int | None = None
    seconds: float | None = None
    contains: str = ""
    model: str = ""
    delay: float = 0
    options: dict[str, Any] = field(default_factory=dict)
    id: int = 0
    hits: int = 0
    since: float = field(default_factory=monotonic, repr=False)

    def applies(self, operation: str, text: str, model: str) -> bool:
        """Return True if the rule hits this request."""
        return (
            (self.times is None or self.hits < self.times)
            and (self.seconds is None or monotonic() < self.since + self.seconds)
            and fnmatchcase(operation, self.on)
            and self.contains in text
            and self.model in ("", model)
        )


class Faults:
    """The rules of one server, in the order in which they were added; the first that applies wins."""

    def __init__(self, kinds: frozenset[str]) -> None:
        self.kinds = kinds | {"slow"}
        self._rules: list[Fault] = []
        self._ids = itertools.count(1)
        self._cleared = asyncio.Event()

    def add(self, kind: str, **values: Any) -> int:
        """Add a rule and return its number. Unknown words are options of the kind."""
        if kind not in self.kinds:
            raise ValueError(f"unknown fault {kind!r}; there are: {', '.join(sorted(self.kinds))}")
        known = {name: values.pop(name) for name in list(values) if name in Fault.__dataclass_fields__}
        rule = Fault(kind=kind, options=values, **{**known, "id": next(self._ids)})
        self._rules.append(rule)
        return rule.id

    def clear(self, id: int | None = None) -> None:
        """Remove one rule, or all; requests that hang because of a fault end."""
        self._rules = [rule for rule in self._rules if id is not None and rule.id != id]
        self._cleared.set()
        self._cleared = asyncio.Event()

    def state(self) -> list[dict[str, Any]]:
        """The rules with their hits, for people and tests."""
        return [asdict(rule) for rule in self._rules]

    @property
    def read_text(self) -> bool:
        """Return True if a rule looks into requests."""
        return any(rule.contains for rule in self._rules)

    async def strike(self, operation: str, text: str = "", model: str = "") -> Fault | None:
        """Wait as long as the matching rules say; return the rule that decides on the answer, if any."""
        for rule in self._matching(operation, text, model):
            rule.hits += 1
            if rule.delay:
                await self.hold(rule.delay)
            if rule.kind != "slow":
                return rule
        return None

    async def hold(self, seconds: float) -> None:
        """Wait for that time; `clear()` ends it early."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._cleared.wait(), seconds)

    async def hang(self, receive: Receive) -> None:
        """Never answer: wait until the client gives up or the faults are cleared."""
        waits = [asyncio.ensure_future(gone(receive)), asyncio.ensure_future(self._cleared.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    def _matching(self, operation: str, text: str, model: str) -> Iterator[Fault]:
        return (rule for rule in list(self._rules) if rule.applies(operation, text, model))


async def gone(receive: Receive) -> None:
    """Return when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def drop(scope: Scope, fault: Fault) -> None:
    """End the connection of this request without an answer, or by a reset if the fault has the option `reset`."""
    scope["sandbox.drop"](reset=bool(fault.options.get("reset")))  # the server's protocol class put it there
