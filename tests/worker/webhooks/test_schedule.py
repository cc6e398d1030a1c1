"""Eight attempts within 24 hours."""

from worker.webhooks.schedule import ATTEMPTS, RETRY_AFTER_MAX_SECONDS, wait_after


def test_eight_attempts_take_most_of_a_day_and_no_longer() -> None:
    waits = [wait_after(attempt) for attempt in range(1, ATTEMPTS)]
    total = sum(wait or 0 for wait in waits)
    assert len(waits) + 1 == 8
    assert 20 * 3600 < total <= 24 * 3600
    assert wait_after(ATTEMPTS) is None


def test_waits_differ_so_that_an_outage_does_not_come_back_all_at_once() -> None:
    assert len({wait_after(3) for _ in range(20)}) > 10


def test_a_partner_may_ask_for_a_longer_wait_within_an_hour() -> None:
    assert wait_after(1, retry_after=120) == 120
    assert wait_after(1, retry_after=10**9) == RETRY_AFTER_MAX_SECONDS
