"""The books of the app's users (b2c): refunds of this worker name their session, all other lines match by number."""

import re
from dataclasses import dataclass

from worker.generation.audit.ledger import Row
from worker.generation.audit.report import Finding, Report
from worker.generation.audit.tally import Tally
from worker.generation.channel import Channel

#: What fail_generation writes into the ledger (sql/functions.sql).
_SESSION = re.compile(r"\(session=([0-9a-fA-F-]{36})\)")


@dataclass(slots=True)
class _Refund:
    owner_id: str
    credits: int
    count: int


class UserBooks:
    """Fed with all lines of the ledger, then all sessions; `close` writes the rest into the report."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._totals = report.total(Channel.B2C, "user")
        self._users: dict[str, Tally] = {}
        self._refunds: dict[str, _Refund] = {}
        self.ledger_sums: dict[str, int] = {}

    def transaction(self, row: Row) -> None:
        """One line of the ledger."""
        owner, credits = row["user_id"], abs(row["amount"])
        # The sign is the producer's business; the type says which way a credit went.
        sign = -1 if row["type"] == "generation" else 1
        self.ledger_sums[owner] = self.ledger_sums.get(owner, 0) + sign * credits
        if row["type"] == "generation":
            self._totals.deducted += credits
            self._user(owner).deducted += credits
        elif row["type"] == "refund":
            self._totals.refunded += credits
            self._refund(owner, credits, _SESSION.search(row["description"] or ""))

    def session(self, row: Row) -> None:
        """One session."""
        user, refund = self._user(row["user_id"]), self._refunds.pop(row["id"], None)
        credits = 1 if row["credits_used"] is None else row["credits_used"]
        if row["status"] == "completed":
            user.completed += credits
            self._totals.completed += credits
        elif row["status"] == "failed":
            user.failed += credits
            if refund is None and credits:
                user.unrefunded.append((row["id"], credits))
        else:
            user.in_work += credits
            self._totals.in_work += credits
        if refund:
            self._check(row, credits, refund)

    def close(self) -> None:
        """What is left once every session has been seen."""
        for refund in self._refunds.values():
            self._user(refund.owner_id).refunded_gone += refund.credits
        for owner_id, user in self._users.items():
            user.judge(Channel.B2C, owner_id, self._report)

    def _refund(self, owner: str, credits: int, named: re.Match[str] | None) -> None:
        if named is None:
            self._user(owner).refunded += credits
            return
        refund = self._refunds.setdefault(named[1].lower(), _Refund(owner, 0, 0))
        refund.credits += credits
        refund.count += 1

    def _check(self, row: Row, credits: int, refund: _Refund) -> None:
        kind, off = "", refund.credits
        if row["status"] == "completed":
            kind = "completed_and_refunded"
        elif row["status"] != "failed":
            kind = "open_and_refunded"
        elif refund.owner_id != row["user_id"]:
            kind = "refunded_to_another"
        elif refund.credits != credits:
            kind = "refunded_twice" if refund.count > 1 else "refunded_wrong_amount"
            off = abs(refund.credits - credits)
        if kind:
            detail = f"{refund.count} refunds, {refund.credits} credits for {credits}"
            for owner_id in sorted({row["user_id"], refund.owner_id}):
                self._report.wrong.append(Finding(kind, Channel.B2C, owner_id, off, row["id"], detail=detail))

    def _user(self, owner_id: str) -> Tally:
        return self._users.setdefault(owner_id, Tally())
