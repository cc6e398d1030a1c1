"""The result of an audit: what is wrong, what a person has to do, what cannot be matched, and the sums."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from worker.generation.audit.kinds import BY_HAND, SEVERAL_KINDS, UNMATCHED, WRONG
from worker.generation.channel import Channel

_CHANNELS = {channel.value: channel for channel in Channel}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or to be done by hand. `credits` is how many credits it is about."""

    kind: str
    channel: Channel
    owner_id: str
    credits: int
    session_id: str | None = None
    request_id: str | None = None
    #: Line of the ledger.
    line_id: str | None = None
    detail: str = ""


@dataclass
class Report:
    """The books at one moment."""

    #: Sessions that this audit has looked at, and lines of both ledgers.
    sessions: int = 0
    transactions: int = 0
    seconds: float = 0.0
    #: Everything was proven, not only what has changed since the last audit.
    full: bool = True
    #: Redis was asked which sessions are worked on.
    redis_read: bool = False
    #: Examples of each kind; `counts` has all.
    wrong: list[Finding] = field(default_factory=list)
    by_hand: list[Finding] = field(default_factory=list)
    #: Numbers of each kind in UNMATCHED.
    unmatched: dict[str, int] = field(default_factory=dict)
    #: Sums per kind of payer.
    totals: list[dict[str, Any]] = field(default_factory=list)
    #: Count and credits of each kind, as the database has counted them.
    found: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        """The answer of wearon_audit_report; kinds that newer versions add are left out."""
        report = cls(
            sessions=int(answer["sessions"]),
            transactions=int(answer["transactions"]),
            full=bool(answer["everything"]),
            totals=list(answer["totals"]),
            unmatched={kind: int(count) for kind, count in answer["notes"].items() if kind in UNMATCHED},
            found={kind: found for kind, found in answer["kinds"].items() if kind in WRONG or kind in BY_HAND},
        )
        for each in answer["findings"]:
            finding = Finding(**{**each, "channel": _CHANNELS[each["channel"]]})
            if finding.kind in WRONG:
                report.wrong.append(finding)
            elif finding.kind in BY_HAND:
                report.by_hand.append(finding)
        if free := answer["kinds"].get("session_without_deduction"):
            known = report.unmatched.get("session_without_deduction", 0)
            report.unmatched["session_without_deduction"] = known + int(free["count"])
        return report

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each wrong kind, 0 included."""
        counts = {kind: self.found.get(kind, {}).get("count", 0) for kind in WRONG}
        counts["stuck"] = sum(finding.kind == "stuck" for finding in self.wrong)
        return counts

    @property
    def right(self) -> bool:
        """Return True if each credit taken is one picture delivered, one credit back, or work that goes on."""
        return not any(self.counts.values())

    @property
    def drift(self) -> int:
        """Credits that are not where they belong."""
        known = sum(found["credits"] for kind, found in self.found.items() if kind in WRONG)
        return known + sum(finding.credits for finding in self.wrong if finding.kind == "stuck")

    @property
    def exit_code(self) -> int:
        """0: right; the kind's own code when one kind alone is wrong."""
        kinds = [kind for kind, count in self.counts.items() if count]
        return SEVERAL_KINDS if len(kinds) > 1 else sum(WRONG[kind].exit_code for kind in kinds)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {
            "right": self.right,
            "exit_code": self.exit_code,
            "drift": self.drift,
            "full": self.full,
            "sessions": self.sessions,
            "transactions": self.transactions,
            "seconds": round(self.seconds, 2),
            "redis_read": self.redis_read,
            "counts": {kind: count for kind, count in self.counts.items() if count},
            "totals": self.totals,
            "wrong": _as_dicts(self.wrong),
            "by_hand": _as_dicts(self.by_hand),
            "unmatched": [
                {"kind": kind, "count": count, "why": UNMATCHED[kind]} for kind, count in self.unmatched.items()
            ],
        }


def _as_dicts(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    kinds = WRONG | BY_HAND
    return [
        {**asdict(finding), "meaning": kinds[finding.kind].meaning, "remedy": kinds[finding.kind].remedy}
        for finding in findings
    ]
