"""What an audit found: sums per payer, what is wrong, what somebody has to do by hand, what cannot be matched."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from worker.generation.channel import Channel

Payer = Literal["user", "store", "shopper", "overage", "none"]

#: Everything that makes the books wrong.
WRONG = {
    "failed_not_refunded": "failed, and the credit did not go back",
    "completed_and_refunded": "delivered, and the credit went back, too",
    "refunded_twice": "more than one refund",
    "refunded_wrong_amount": "the refund is not what was taken",
    "refunded_to_another": "the refund went to somebody who did not pay",
    "open_and_refunded": "refunded, and still open",
    "refund_unexplained": "no failed session or deduction explains the refund",
    "stuck": "open for too long",
}
#: Books are right, but a person has to act.
BY_HAND = {"overage_failed": "failed, and billed outside: refund the charge by hand"}
#: What the audit cannot match one to one, and why; nobody has lost a credit by it as far as the books show.
UNMATCHED = {
    "refund_without_session_id": "made by somebody else than this worker; such refunds are matched per owner by number",
    "deduction_without_session": "the row was deleted, is being inserted, or the credit was for something else",
    "session_without_deduction": "no deduction in the ledger: it was free, or is older than the ledger",
    "session_gone": "a deduction and its refund without a session row: they cancel out",
    "balance_differs": "the balance is not the sum of its ledger: it was changed without a line there",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or to be done by hand. `credits` is how many credits it is about."""

    kind: str
    channel: Channel
    owner_id: str
    credits: int
    session_id: str | None = None
    request_id: str | None = None
    detail: str = ""


@dataclass
class Totals:
    """deducted = completed + refunded + in_work + unmatched, in credits."""

    channel: Channel
    payer: Payer
    deducted: int = 0
    completed: int = 0
    refunded: int = 0
    in_work: int = 0

    @property
    def unmatched(self) -> int:
        return self.deducted - self.completed - self.refunded - self.in_work


@dataclass
class Report:
    """The books at one moment."""

    sessions: int = 0
    transactions: int = 0
    seconds: float = 0.0
    #: Whether Redis was asked who works on the open sessions.
    redis_read: bool = False
    totals: dict[tuple[Channel, Payer], Totals] = field(default_factory=dict)
    wrong: list[Finding] = field(default_factory=list)
    by_hand: list[Finding] = field(default_factory=list)
    #: How many of each kind in UNMATCHED, per channel.
    unmatched: dict[tuple[Channel, str], int] = field(default_factory=dict)
    #: What each owner's balance should be if every credit went through the ledger.
    ledger_sums: dict[Channel, dict[str, int]] = field(default_factory=dict)

    @property
    def right(self) -> bool:
        """Whether one credit taken is, everywhere, one picture delivered, one credit back, or work that goes on."""
        return not self.wrong

    @property
    def drift(self) -> int:
        """Credits that are not where they belong."""
        return sum(finding.credits for finding in self.wrong)

    def total(self, channel: Channel, payer: Payer) -> Totals:
        """The sums of one payer."""
        return self.totals.setdefault((channel, payer), Totals(channel, payer))

    def note(self, channel: Channel, kind: str, count: int) -> None:
        """Count something that cannot be matched."""
        if count:
            self.unmatched[channel, kind] = self.unmatched.get((channel, kind), 0) + count

    def owners(self) -> set[str]:
        """Whose books are wrong."""
        return {finding.owner_id for finding in self.wrong}

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: keys are never renamed or removed."""
        return {
            "right": self.right,
            "drift": self.drift,
            "sessions": self.sessions,
            "transactions": self.transactions,
            "seconds": round(self.seconds, 2),
            "redis_read": self.redis_read,
            "totals": [{**asdict(total), "unmatched": total.unmatched} for total in self.totals.values()],
            "wrong": _as_dicts(self.wrong, WRONG),
            "by_hand": _as_dicts(self.by_hand, BY_HAND),
            "unmatched": [
                {"channel": channel, "kind": kind, "count": count, "why": UNMATCHED[kind]}
                for (channel, kind), count in self.unmatched.items()
            ],
        }


def _as_dicts(findings: Iterable[Finding], meanings: dict[str, str]) -> list[dict[str, Any]]:
    return [{**asdict(finding), "meaning": meanings[finding.kind]} for finding in findings]
