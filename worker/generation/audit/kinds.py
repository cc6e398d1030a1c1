"""Everything that an audit can find: its meaning, its remedy and, for what is wrong, its exit code."""

from typing import NamedTuple

#: More than one kind is wrong.
SEVERAL_KINDS = 1


class Kind(NamedTuple):
    """One kind. `exit_code`: of `wearon-worker audit` if only this kind is found; 0 for a kind that is not wrong."""

    exit_code: int
    meaning: str
    remedy: str


_BALANCE = "find the change without a line, and undo it or book it as a line (docs/runbook.md)"
#: Everything that makes the books wrong. Exit codes are never given to another kind.
WRONG = {
    "failed_not_refunded": Kind(
        10, "failed, and the credit did not go back", "refund it, with the session's id in the text"
    ),
    "completed_and_refunded": Kind(
        11, "delivered, and the credit went back, too", "take the credit again, with the session's id in the text"
    ),
    "refunded_twice": Kind(
        12, "more than one refund", "take the surplus credits again, with the session's id in the text"
    ),
    "refunded_wrong_amount": Kind(13, "the refund is not what was taken", "refund or take the difference"),
    "refunded_to_another": Kind(
        14, "the refund went to an account that did not pay", "take it there, and refund the payer"
    ),
    "open_and_refunded": Kind(15, "refunded, and still open", "fail the session"),
    "refund_unexplained": Kind(16, "no failed session or deduction explains the refund", "take the credit again"),
    "refunds_exceed_deductions": Kind(17, "more was refunded than ever taken", "take the surplus credits again"),
    "user_balance_differs": Kind(18, "a user's balance is not the sum of the ledger", _BALANCE),
    "store_balance_differs": Kind(19, "a store's balance is not the sum of the ledger", _BALANCE),
    "shopper_balance_differs": Kind(20, "a shopper's balance is not the sum of the ledger", _BALANCE),
    "stuck": Kind(21, "open for too long", "look for its message and its worker (docs/runbook.md)"),
}
#: Books are right, but a person has to act.
BY_HAND = {"overage_failed": Kind(0, "failed, and billed outside", "refund the charge by hand")}
#: Lines that the audit cannot match one to one; no payer has lost a credit by them as far as the ledgers show.
UNMATCHED = {
    "refund_without_session_id": "made by another program; such refunds are matched per owner by number",
    "deduction_without_session": "the row was deleted, is being inserted, or the credit was for something else",
    "session_without_deduction": "no deduction in the ledger: it was free, or is older than the ledger",
    "session_gone": "a deduction and its refund without a session row: they cancel out",
    "row_rewritten": "the ledger shows the delivery; the row was changed afterwards, which its user may do",
    "opening_balance": "credits came in without a line, or before the ledger began; the account's own counters say so",
}
