"""Girths to a clothing size, by a chart of limits for chest, waist and hip."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import erf, inf, prod, sqrt
from typing import Literal

import numpy as np

Fit = Literal["tight", "regular", "loose"]

#: The adjustment of every girth for a tight or loose fit before the chart is read, in cm.
FIT_CM: Mapping[Fit, float] = {"tight": -3.0, "regular": 0.0, "loose": 3.0}
_GIRTHS = ("chest", "waist", "hip")
#: Classes of the signs that change the direction of the text behind them.
_TURNING = {"LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
#: Points and weights that average over the part of the errors that all girths share.
_POINTS, _WEIGHTS = (array.tolist() for array in np.polynomial.hermite_e.hermegauss(15))
_TOTAL = sum(_WEIGHTS)


def _check_rise(girth: str, lower: tuple[str, float], upper: tuple[str, float]) -> None:
    (small, less), (large, more) = lower, upper
    if less <= more:
        return
    if less == inf:
        raise ValueError(
            f"Size {large} limits the {girth} and the smaller size {small} does not: give {girth}_cm for {small}, too."
        )
    raise ValueError(
        f"The {girth} limits of a size chart must not fall from one size to the next: {small} has {less:g} cm and "
        f"{large} has {more:g} cm."
    )


def _check_names(names: list[str]) -> None:
    """Refuse names that a customer could not tell apart, or that turn the text around them."""
    for name in names:
        turning = [sign for sign in name if unicodedata.bidirectional(sign) in _TURNING]
        if turning:
            raise ValueError(f"A size's name has the invisible sign {unicodedata.name(turning[0])}: leave it out.")
    shown = [_shown(name) for name in names]
    if "" in shown:
        raise ValueError("A size's name has invisible signs alone: give it one that can be read.")
    twice = next((name for index, name in enumerate(shown) if name in shown[:index]), None)
    if twice is not None:
        raise ValueError(f"Two sizes are both shown as {twice}: give each a name of its own.")


def _shown(name: str) -> str:
    """The name as a customer sees it, without spaces at its ends and signs that take no room."""
    seen = (sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    return "".join(seen).strip()


@dataclass(frozen=True)
class Limits:
    """The largest girths in cm that a size fits; `inf` where the chart sets no limit."""

    chest: float = inf
    waist: float = inf
    hip: float = inf


@dataclass(frozen=True)
class Normal:
    """A girth in cm as a normal distribution."""

    value: float
    deviation: float


@dataclass(frozen=True)
class Chart:
    """Sizes from small to large. The last one also takes larger people."""

    sizes: tuple[tuple[str, Limits], ...]

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ValueError("A size chart needs at least one size.")
        _check_names([name for name, _ in self.sizes])
        for (small, lower), (large, upper) in pairwise(self.sizes):
            if lower == upper:
                raise ValueError(f"Sizes {small} and {large} have the same limits: leave one of them out.")
            for girth in _GIRTHS:
                _check_rise(girth, (small, getattr(lower, girth)), (large, getattr(upper, girth)))

    @property
    def names(self) -> list[str]:
        """The sizes from small to large."""
        return [name for name, _ in self.sizes]

    @property
    def limited(self) -> list[str]:
        """The girths that the chart limits."""
        return [girth for girth in _GIRTHS if getattr(self.sizes[0][1], girth) < inf]

    def size(self, chest: float, waist: float = 0.0, hip: float = 0.0) -> int:
        """Index of the smallest size whose limits hold; a girth that is not given (0) fits every size."""
        for index, (_, limits) in enumerate(self.sizes):
            if chest <= limits.chest and waist <= limits.waist and hip <= limits.hip:
                return index
        return len(self.sizes) - 1

    def exceeded(self, chest: float, waist: float, hip: float) -> bool:
        """Test if even the largest size is too small."""
        largest = self.sizes[-1][1]
        return chest > largest.chest or waist > largest.waist or hip > largest.hip

    def probabilities(self, girths: Mapping[str, Normal], correlation: float = 0.0) -> list[float]:
        """The probability of each size that it is the one for the true girths; the sum is 1."""
        up_to = [self._chance_up_to(limits, girths, correlation) for _, limits in self.sizes[:-1]]
        return [upper - lower for lower, upper in pairwise([0.0, *up_to, 1.0])]

    def chance_to_fit(self, index: int, girths: Mapping[str, Normal], correlation: float = 0.0) -> float:
        """The probability that size `index` fits by its limits and the next smaller size does not."""
        smaller = self._chance_up_to(self.sizes[index - 1][1], girths, correlation) if index else 0.0
        return self._chance_up_to(self.sizes[index][1], girths, correlation) - smaller

    def _chance_up_to(self, limits: Limits, girths: Mapping[str, Normal], correlation: float) -> float:
        """The probability that all girths are within `limits`."""
        shared, own = sqrt(correlation), sqrt(1 - correlation)
        # A girth without a limit fits every size.
        limited = [(getattr(limits, name), girth) for name, girth in girths.items() if getattr(limits, name) < inf]
        distances = [(limit - girth.value) / girth.deviation for limit, girth in limited]
        chances = (prod(_below((z - shared * point) / own) for z in distances) for point in _POINTS)
        return sum(weight * chance for weight, chance in zip(_WEIGHTS, chances, strict=True)) / _TOTAL


def _below(z: float) -> float:
    return 0.5 * (1 + erf(z / sqrt(2)))
