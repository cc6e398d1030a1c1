"""Receipts and messages in any order."""

from pathlib import Path

import pytest

from bridge import delivery
from bridge.delivery import Deliveries


def test_receipt_that_overtakes_the_answer_counts(tmp_path: Path) -> None:
    deliveries = Deliveries(tmp_path)
    deliveries.delivered(["a"])
    assert deliveries.counts["delivered"] == 0
    deliveries.sent("a")
    assert deliveries.counts == {"sent": 1, "delivered": 1, "failed": 0}
    assert deliveries.undelivered_seconds() == 0


def test_group_counts_once_and_foreign_receipts_do_not_count(tmp_path: Path) -> None:
    deliveries = Deliveries(tmp_path)
    deliveries.sent("a")
    deliveries.delivered(["a"])
    deliveries.delivered(["a", "of-the-phone-itself"])
    assert deliveries.counts["delivered"] == 1


def test_what_is_waited_for_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten; a new message finds its early receipt all the same."""
    monkeypatch.setattr(delivery, "MAXIMUM_PENDING", 3)
    deliveries = Deliveries(tmp_path)
    deliveries.delivered([f"foreign-{number}" for number in range(10)])
    deliveries.delivered(["a"])
    deliveries.sent("a")
    assert deliveries.counts["delivered"] == 1
    for number in range(10):
        deliveries.sent(f"mine-{number}")
    deliveries.delivered(["mine-0", "mine-9"])
    assert deliveries.counts["delivered"] == 2


def test_phone_that_is_off_for_a_day_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries = Deliveries(tmp_path)
    now = 1_000_000.0
    monkeypatch.setattr("bridge.delivery.time.time", lambda: now)
    deliveries.sent("a")
    now += 400
    assert deliveries.undelivered_seconds() == 400
    now += 86400
    assert deliveries.undelivered_seconds() == 0
