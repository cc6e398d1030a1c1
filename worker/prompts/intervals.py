"""Confidence intervals of shares, of their difference, and of means."""

import math
from dataclasses import dataclass
from statistics import NormalDist

#: Quantiles of the normal distribution for two-sided intervals of 95 % and 99.9 %.
Z_95 = NormalDist().inv_cdf(0.975)
Z_999 = NormalDist().inv_cdf(0.9995)


@dataclass(frozen=True)
class Interval:
    """An estimate and its limits."""

    low: float
    value: float
    high: float


def share(hits: int, count: int, z: float = Z_95) -> Interval:
    """Wilson's score interval (1927), which holds its promise also for few cases and shares near 0 and 1."""
    if not count:
        return Interval(0.0, math.nan, 1.0)
    value, weight = hits / count, z * z / count
    middle = (value + weight / 2) / (1 + weight)
    half = z * math.sqrt(value * (1 - value) / count + weight / (4 * count)) / (1 + weight)
    # The exact limits at no hit and at hits alone, in spite of rounding.
    return Interval(max(0.0, middle - half) if hits else 0.0, value, min(1.0, middle + half) if hits < count else 1.0)


def difference(first: Interval, second: Interval) -> Interval:
    """Difference of two shares, from Wilson's intervals: Newcombe's hybrid score interval (1998, method 10)."""
    value = first.value - second.value
    low = math.hypot(first.value - first.low, second.high - second.value)
    high = math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value - low, value, value + high)


def mean(count: int, value: float, variance: float) -> Interval:
    """Student's interval of 95 %; without limits for fewer than two cases."""
    if count < 2:
        return Interval(-math.inf, value if count else math.nan, math.inf)
    half = _student(count - 1) * math.sqrt(variance / count)
    return Interval(value - half, value, value + half)


def _student(freedom: int) -> float:
    """Quantile 0.975 of Student's distribution: Abramowitz and Stegun 26.7.5; exact where that is poor."""
    exact = {1: 12.7062, 2: 4.3027, 3: 3.1824}
    z = Z_95
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return exact.get(freedom) or sum(term / freedom**power for power, term in enumerate(terms))
