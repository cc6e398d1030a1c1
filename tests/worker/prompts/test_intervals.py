"""Intervals beside the figures of those who published them."""

import pytest
from scipy import stats

from worker.prompts import intervals
from worker.prompts.intervals import Interval, difference, mean, share


def near(interval: Interval, *limits: float) -> bool:
    return (interval.low, interval.high) == pytest.approx(limits, abs=1e-4)


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (1, 29), (15, 148), (81, 263), (148, 148)])
@pytest.mark.parametrize("level", [0.95, 0.999])
def test_a_share_has_wilsons_limits(hits: int, count: int, level: float) -> None:
    limits = stats.binomtest(hits, count).proportion_ci(level, method="wilson")
    z = {0.95: intervals.Z_95, 0.999: intervals.Z_999}[level]
    assert near(share(hits, count, z), limits.low, limits.high)


@pytest.mark.parametrize(
    ("first", "second", "limits"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_a_difference_has_the_limits_of_newcombes_examples(
    first: tuple[int, int], second: tuple[int, int], limits: tuple[float, float]
) -> None:
    assert near(difference(share(*first), share(*second)), *limits)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 10, 30, 1000])
def test_a_mean_has_students_limits(count: int) -> None:
    found, half = mean(count, 5.0, 4.0), stats.t.ppf(0.975, count - 1) * 2 / count**0.5
    assert (found.low, found.high) == pytest.approx((5 - half, 5 + half), rel=5e-3)


def test_no_case_shows_nothing() -> None:
    assert (share(0, 0).low, share(0, 0).high) == (0, 1)
    assert mean(1, 5.0, 0.0).high == float("inf")
