"""Matching by number: for lines of a ledger that name no session, only the sums of an owner can be compared."""

from dataclasses import dataclass, field

from worker.generation.audit.report import Finding, Report
from worker.generation.channel import Channel

_NAMED_SESSIONS = 20


@dataclass(slots=True)
class Tally:
    """The credits of one owner whose ledger lines cannot be told apart."""

    deducted: int = 0
    completed: int = 0
    failed: int = 0
    in_work: int = 0
    #: Refunds that name no session.
    refunded: int = 0
    #: Refunds that name a session which is no more.
    refunded_gone: int = 0
    #: Failed sessions that no refund names, with their credits.
    unrefunded: list[tuple[str, int]] = field(default_factory=list)

    def judge(self, channel: Channel, owner_id: str, report: Report) -> None:
        """Write into the report what the sums say.

        A refund needs a failed session or, where the session row is gone, a deduction without a session. A failed
        session needs a refund, unless nothing was ever taken for it.
        """
        surplus = self.deducted - self.completed - self.failed - self.in_work
        without_session, never_taken = max(0, surplus), max(0, -surplus)
        failed = sum(credits for _, credits in self.unrefunded)
        missing = max(0, failed - self.refunded)
        extra = max(0, self.refunded - failed) + self.refunded_gone

        gone = min(extra, without_session)
        forgiven = min(missing, never_taken)
        if extra > gone:
            self._unexplained(channel, owner_id, extra - gone, report)
        if missing > forgiven:
            self._not_refunded(channel, owner_id, missing - forgiven, failed, report)
        report.note(channel, "refund_without_session_id", min(self.refunded, failed))
        report.note(channel, "session_gone", gone)
        report.note(channel, "deduction_without_session", without_session - gone)
        report.note(channel, "session_without_deduction", never_taken)

    def _unexplained(self, channel: Channel, owner_id: str, credits: int, report: Report) -> None:
        detail = f"{self.refunded + self.refunded_gone} credits of refunds that no failed session of the owner explains"
        report.wrong.append(Finding("refund_unexplained", channel, owner_id, credits, detail=detail))

    def _not_refunded(self, channel: Channel, owner_id: str, credits: int, failed: int, report: Report) -> None:
        if credits == failed:
            for session_id, its_credits in self.unrefunded:
                report.wrong.append(Finding("failed_not_refunded", channel, owner_id, its_credits, session_id))
            return
        named = ", ".join(session_id for session_id, _ in self.unrefunded[:_NAMED_SESSIONS])
        detail = f"{credits} of the {failed} credits of these failed sessions and of no others: {named}"
        report.wrong.append(Finding("failed_not_refunded", channel, owner_id, credits, detail=detail))
