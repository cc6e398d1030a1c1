"""The books of stores and their shoppers (b2b): ledger lines and sessions match one to one by store and request."""

import re
from dataclasses import dataclass

from worker.generation.audit.ledger import Row
from worker.generation.audit.report import Finding, Payer, Report
from worker.generation.audit.tally import Tally
from worker.generation.channel import Channel

#: The description ends with it when it was the shopper's balance (contracts.md section 2).
_SHOPPER = re.compile(r"\(shopper=([^()]+)\)$")


@dataclass(slots=True)
class _Request:
    """The ledger lines of one request and, once seen, its failed session."""

    deducted: int = 0
    #: Credits billed outside instead.
    overage: int = 0
    shopper: str | None = None
    refunded: int = 0
    refunds: int = 0
    refunded_shopper: str | None = None
    failed_session: str | None = None

    @property
    def payer(self) -> Payer:
        if self.deducted:
            return "shopper" if self.shopper else "store"
        return "overage" if self.overage else "none"


class StoreBooks:
    """Fed with all lines of the ledger, then all sessions; `close` writes the rest into the report."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._requests: dict[tuple[str, str], _Request] = {}
        #: Lines and sessions without a request id, per store.
        self._nameless: dict[str, Tally] = {}
        self.ledger_sums: dict[str, int] = {}

    def transaction(self, row: Row) -> None:
        """One line of the ledger."""
        store, kind, credits = row["store_id"], row["type"], abs(row["amount"])
        if kind in ("purchase", "subscription"):
            self._book(store, credits)
        elif row["request_id"] is None:
            self._nameless_line(store, kind, credits)
        else:
            request = self._requests.setdefault((store, row["request_id"]), _Request())
            shopper = _SHOPPER.search(row["description"] or "")
            if kind == "deduction":
                request.deducted += credits
                request.shopper = shopper[1] if shopper else None
            elif kind == "refund":
                request.refunded += credits
                request.refunds += 1
                request.refunded_shopper = shopper[1] if shopper else None
            elif kind == "overage":
                request.overage += credits

    def session(self, row: Row) -> None:
        """One session."""
        if row["request_id"] is None:
            self._nameless_session(row)
            return
        key = (row["store_id"], row["request_id"])
        request = self._requests.setdefault(key, _Request())
        total = self._report.total(Channel.B2B, request.payer)
        credits = request.deducted or request.overage or (1 if row["credits_used"] is None else row["credits_used"])
        if request.payer == "none":
            self._report.note(Channel.B2B, "session_without_deduction", 1)
        if row["status"] == "failed":
            request.failed_session = row["id"]
            return
        if row["status"] == "completed":
            total.completed += credits
        else:
            total.in_work += credits
        if request.refunded:
            kind = "completed_and_refunded" if row["status"] == "completed" else "open_and_refunded"
            self._wrong(kind, key, request.refunded, row["id"])
        # A failed session of the same request has nothing coming: its credit was used.
        self._count(key[0], self._requests.pop(key))

    def close(self) -> None:
        """What is left once every session has been seen."""
        for key, request in self._requests.items():
            self._count(key[0], request)
            if request.failed_session:
                self._check_failed(key, request, request.failed_session)
            elif request.refunded > request.deducted + request.overage:
                self._wrong("refund_unexplained", key, request.refunded - request.deducted - request.overage, None)
            else:
                self._report.note(Channel.B2B, "session_gone" if request.refunded else "deduction_without_session", 1)
        for store, tally in self._nameless.items():
            tally.judge(Channel.B2B, store, self._report)

    def _check_failed(self, key: tuple[str, str], request: _Request, session_id: str) -> None:
        taken, returned = request.deducted, request.refunded
        if request.payer == "overage":
            if not returned:
                self._report.by_hand.append(
                    Finding("overage_failed", Channel.B2B, key[0], request.overage, session_id, key[1])
                )
        elif taken and not returned:
            self._wrong("failed_not_refunded", key, taken, session_id)
        elif returned and not taken:
            self._wrong("refund_unexplained", key, returned, session_id)
        elif taken != returned:
            kind = "refunded_twice" if request.refunds > 1 else "refunded_wrong_amount"
            self._wrong(kind, key, abs(taken - returned), session_id)
        elif request.refunded_shopper and request.refunded_shopper.lower() != (request.shopper or "").lower():
            self._wrong("refunded_to_another", key, returned, session_id)

    def _count(self, store: str, request: _Request) -> None:
        total = self._report.total(Channel.B2B, request.payer)
        total.deducted += request.deducted or request.overage
        total.refunded += request.refunded
        if request.payer == "store":
            self._book(store, request.refunded - request.deducted)

    def _nameless_line(self, store: str, kind: str, credits: int) -> None:
        tally, total = self._nameless.setdefault(store, Tally()), self._report.total(Channel.B2B, "store")
        if kind == "deduction":
            tally.deducted += credits
            total.deducted += credits
            self._book(store, -credits)
        elif kind == "refund":
            tally.refunded += credits
            total.refunded += credits
            self._book(store, credits)

    def _nameless_session(self, row: Row) -> None:
        tally, total = self._nameless.setdefault(row["store_id"], Tally()), self._report.total(Channel.B2B, "store")
        credits = 1 if row["credits_used"] is None else row["credits_used"]
        if row["status"] == "completed":
            tally.completed += credits
            total.completed += credits
        elif row["status"] == "failed":
            tally.failed += credits
            tally.unrefunded.append((row["id"], credits))
        else:
            tally.in_work += credits
            total.in_work += credits

    def _book(self, store: str, credits: int) -> None:
        self.ledger_sums[store] = self.ledger_sums.get(store, 0) + credits

    def _wrong(self, kind: str, key: tuple[str, str], credits: int, session_id: str | None) -> None:
        self._report.wrong.append(Finding(kind, Channel.B2B, key[0], credits, session_id, key[1]))
