"""Results of a prompt version, and what they say beside those of the control."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from worker.prompts.intervals import Z_95, Z_999, Interval, difference, mean, share

#: Sessions that a version and the control each need for a comparison.
ENOUGH = 100
#: Sessions that each of them needs before the version is paused.
ENOUGH_TO_PAUSE = 20
#: Blocked sessions that a version needs before it is paused: fewer may be chance.
BLOCKED_TO_PAUSE = 5
#: A version is paused if it blocks so many times as often as the control.
PAUSE_RATIO = 2


@dataclass(frozen=True)
class Results:
    """Sessions that asked for a picture and have ended. `seconds` and `cost_usd` are of those with a picture."""

    version: str
    ended: int = 0
    completed: int = 0
    blocked: int = 0
    #: Count, mean and variance.
    seconds: tuple[int, float, float] = (0, 0.0, 0.0)
    cost_usd: tuple[int, float, float] = (0, 0.0, 0.0)

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """One version of the database's answer."""
        ended, completed, blocked = (int(answer[name]) for name in ("ended", "completed", "blocked"))
        seconds, cost = (_moments(*answer[name]) for name in ("seconds", "cost_usd"))
        return cls(str(answer["version"]), ended, completed, blocked, seconds, cost)

    @property
    def is_enough(self) -> bool:
        """Return False if these are too few sessions to compare."""
        return self.ended >= ENOUGH

    @property
    def estimates(self) -> dict[str, Interval]:
        """Each measure with the limits of 95 %: shares of success and moderation, mean seconds and USD of a picture."""
        return {
            "success": share(self.completed, self.ended),
            "moderation": share(self.blocked, self.ended),
            "seconds": mean(*self.seconds),
            "cost_usd": mean(*self.cost_usd),
        }

    def blocks_more_than(self, control: "Results", z: float = Z_95) -> bool:
        """Return True if the interval of the difference excludes that both block equally often."""
        return _gap(self.blocked, self.ended, control.blocked, control.ended, z).low > 0

    def succeeds_otherwise_than(self, control: "Results") -> int:
        """Return 1 or -1 if the version succeeds more or less often than the control, 0 if the data shows neither."""
        gap = _gap(self.completed, self.ended, control.completed, control.ended, Z_95)
        return (gap.low > 0) - (gap.high < 0)

    def must_pause(self, control: "Results") -> bool:
        """Return True if the version blocks twice as often as the control, and chance is no explanation.

        The limits are those of 99.9 %, because the question is asked again and again while the data grows.
        """
        if min(self.ended, control.ended) < ENOUGH_TO_PAUSE or self.blocked < BLOCKED_TO_PAUSE:
            return False
        twice = self.blocked * control.ended >= PAUSE_RATIO * control.blocked * self.ended
        return twice and self.blocks_more_than(control, Z_999)


def note(results: Results, control: Results | None) -> str:
    """The sentence of `prompts compare`: the differences that the data shows with 95 %; too little data shows none."""
    if not results.is_enough:
        return f"too little data: {results.ended} sessions, {ENOUGH} are needed"
    if control is None:
        return ""
    if not control.is_enough:
        return f"too little data of the control: {control.ended} sessions, {ENOUGH} are needed"
    found = []
    if results.blocks_more_than(control):
        found.append("is blocked more often")
    elif control.blocks_more_than(results):
        found.append("is blocked less often")
    if success := results.succeeds_otherwise_than(control):
        found.append("succeeds more often" if success > 0 else "succeeds less often")
    return ", ".join(found) if found else "no difference shown"


def _gap(hits: int, count: int, control_hits: int, control_count: int, z: float) -> Interval:
    return difference(share(hits, count, z), share(control_hits, control_count, z))


def _moments(count: object, value: object, variance: object) -> tuple[int, float, float]:
    return int(str(count)), float(str(value or 0)), float(str(variance or 0))
