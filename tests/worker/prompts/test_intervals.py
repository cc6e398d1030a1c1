"""Intervals beside the figures of those who published them: Newcombe 1998 (both papers), tables of Student's t."""

import pytest

from worker.prompts.intervals import Z_999, Interval, difference, mean, share


def near(interval: Interval, *limits: float) -> bool:
    return (interval.low, interval.high) == pytest.approx(limits, abs=1e-4)


@pytest.mark.parametrize(
    ("hits", "count", "limits"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (29, 29, (0.8830, 1.0)),
    ],
)
def test_a_share_has_wilsons_limits(hits: int, count: int, limits: tuple[float, float]) -> None:
    assert near(share(hits, count), *limits)


def test_a_stricter_limit_is_farther_away() -> None:
    assert near(share(0, 20, Z_999), 0, 0.3512)
    assert near(share(15, 148, Z_999), 0.0452, 0.2119)


@pytest.mark.parametrize(
    ("first", "second", "limits"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_a_difference_has_newcombes_limits(
    first: tuple[int, int], second: tuple[int, int], limits: tuple[float, float]
) -> None:
    assert near(difference(share(*first), share(*second)), *limits)


@pytest.mark.parametrize(
    ("count", "t"),
    [(2, 12.706), (3, 4.303), (4, 3.182), (5, 2.776), (6, 2.571), (10, 2.262), (30, 2.045), (1001, 1.962)],
)
def test_a_mean_has_students_limits(count: int, t: float) -> None:
    found = mean(count, 5.0, 4.0)
    assert (5 - found.low, found.high - 5) == pytest.approx((t * 2 / count**0.5,) * 2, rel=5e-3)


def test_no_case_shows_nothing() -> None:
    assert (share(0, 0).low, share(0, 0).high) == (0, 1)
    assert mean(1, 5.0, 0.0).high == float("inf")
