"""Girths to a clothing size: the default chart by chest, or a shop's own chart by chest, waist and hip."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import erf, inf, prod, sqrt
from typing import Literal

Fit = Literal["tight", "regular", "loose"]

#: What a wish for a tight or loose fit adds to every girth before the chart is read, in cm.
FIT_CM: Mapping[Fit, float] = {"tight": -3.0, "regular": 0.0, "loose": 3.0}


@dataclass(frozen=True)
class Limits:
    """The largest girths in cm that a size fits; `inf` where the chart sets no limit."""

    chest: float = inf
    waist: float = inf
    hip: float = inf


@dataclass(frozen=True)
class Chart:
    """Sizes from small to large. The last one also takes whoever is larger than its limits."""

    sizes: tuple[tuple[str, Limits], ...]

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ValueError("A size chart needs at least one size.")
        for girth in ("chest", "waist", "hip"):
            limits = [getattr(limit, girth) for _, limit in self.sizes]
            if any(smaller > larger for smaller, larger in pairwise(limits)):
                raise ValueError(f"The {girth} limits of a size chart must not fall from one size to the next.")

    def size(self, chest: float, waist: float = 0.0, hip: float = 0.0) -> int:
        """Index of the smallest size whose limits hold; a girth that is not given (0) fits every size."""
        for index, (_, limits) in enumerate(self.sizes):
            if chest <= limits.chest and waist <= limits.waist and hip <= limits.hip:
                return index
        return len(self.sizes) - 1

    def exceeded(self, chest: float, waist: float, hip: float) -> bool:
        """Whether even the largest size is too small."""
        largest = self.sizes[-1][1]
        return chest > largest.chest or waist > largest.waist or hip > largest.hip

    def chance_within_one(self, index: int, **girths: tuple[float, float]) -> float:
        """Probability that size `index` or a neighbour of it is the one for the true girths.

        Of chest, waist and hip, each that is given with its estimate and standard deviation, both in cm; their errors
        are taken as independent.
        """
        upper = self._chance_up_to(index + 1, girths) if index + 2 < len(self.sizes) else 1.0
        lower = self._chance_up_to(index - 2, girths) if index >= 2 else 0.0
        return upper - lower

    def _chance_up_to(self, index: int, girths: Mapping[str, tuple[float, float]]) -> float:
        limits = self.sizes[index][1]
        return prod(_normal((getattr(limits, name) - value) / deviation) for name, (value, deviation) in girths.items())


#: Today's chart (contracts section 5), by chest alone.
DEFAULT_CHART = Chart(
    (
        ("XS", Limits(chest=84)),
        ("S", Limits(chest=92)),
        ("M", Limits(chest=100)),
        ("L", Limits(chest=108)),
        ("XL", Limits(chest=116)),
        ("XXL", Limits()),
    )
)


def _normal(z: float) -> float:
    return 0.5 * (1 + erf(z / sqrt(2)))
