"""The result of a check: one line, and its remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Result:
    """One line of `doctor`. `remedy` is empty when there is nothing to do."""

    name: str
    status: Status
    what: str
    remedy: str = ""


def ok(name: str, what: str) -> Result:
    """A check without a fault."""
    return Result(name, "ok", what)


def warn(name: str, what: str, remedy: str) -> Result:
    """The worker runs; an operator should look at it."""
    return Result(name, "warn", what, remedy)


def fail(name: str, what: str, remedy: str) -> Result:
    """The worker cannot work like this."""
    return Result(name, "fail", what, remedy)


def healthy(results: Iterable[Result]) -> bool:
    """Return True if no check failed."""
    return all(result.status != "fail" for result in results)
