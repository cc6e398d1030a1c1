"""Girths of real people by height, and by weight, sex and age when they are given: the answer without any photo.

Straight lines through ANSUR II (6 068 measured adults), written by `tests/bench/fit_population.py`. Girths follow the
root of weight over height, as the girth of a cylinder does, so that they rise with the weight wherever it is. The
decision page docs/decisions/0017-real-people-first.md says how the waist and the spread were corrected.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worker.sizing.rows import Array

Sex = Literal["F", "M"]

POPULATION_PATH = Path(__file__).with_name("model") / "population.json"

GIRTHS = ("chest", "waist", "hip", "shoulder")
#: The age of a person who does not state any: the middle of those who buy clothes.
USUAL_AGE = 35.0
#: Body-mass index, and its standard deviation, of a person who does not state any weight: 0.8 below ANSUR II, towards
#: the world's adults (24.3, NCD-RisC, Lancet 2016).
USUAL_INDEX: Mapping[Sex, float] = {"F": 24.7, "M": 26.8}
INDEX_SPREAD = 5.0


@dataclass(frozen=True)
class Person:
    """The facts about a person beside any picture."""

    height_cm: float
    weight_kg: float | None = None
    sex: Sex | None = None
    age: float | None = None

    @property
    def root(self) -> float | None:
        """The measure of girth in a weight: the root of kg per cm of height."""
        return None if self.weight_kg is None else sqrt(self.weight_kg / self.height_cm)


@dataclass(frozen=True)
class Expected:
    """Girths in the order of GIRTHS, and their standard deviations."""

    values: Array
    deviations: Array


class Population:
    """The fitted lines; shared by threads."""

    def __init__(self) -> None:
        stored: dict[str, Any] = json.loads(POPULATION_PATH.read_text())
        self._lines: Mapping[str, Mapping[str, Any]] = stored["lines"]
        self._heights: Mapping[str, tuple[float, float]] = stored["heights"]
        self._roots: tuple[float, float, float] = stored["roots"]
        self.depths: Mapping[str, Mapping[str, Any]] = stored["depths"]
        self._ages: tuple[float, float] = stored["ages"]

    def expect(self, person: Person, femininity: float = 0.0) -> Expected:
        """The girths of people like this one; `femininity` as in `shares`."""
        shares = self.shares(person, femininity)
        found = {sex: self._line(sex, person) for sex in shares}
        values = sum((share * found[sex][0] for sex, share in shares.items()), np.zeros(len(GIRTHS)))
        variances = sum(
            (share * (found[sex][1] ** 2 + (found[sex][0] - values) ** 2) for sex, share in shares.items()),
            np.zeros(len(GIRTHS)),
        )
        return Expected(values, np.sqrt(variances) * self._widening(person))

    def shares(self, person: Person, femininity: float = 0.0) -> dict[Sex, float]:
        """The probability of each sex, by the height and what a photo shows beside the girths.

        `femininity` is the logarithm of the odds that the photo gives. The weight must not move people between the
        lines: girths could fall where the weight rises.
        """
        if person.sex is not None:
            return {person.sex: 1.0}
        density = {sex: _density(person.height_cm, mean, spread) for sex, (mean, spread) in self._heights.items()}
        total = sum(density.values())
        male = min(0.95, max(0.05, density["M"] / total)) if total > 0 else 0.5
        odds = male / (1 - male) * exp(-femininity)
        male = odds / (1 + odds)
        return {"F": 1 - male, "M": male}

    def _line(self, sex: Sex, person: Person) -> tuple[Array, Array]:
        line, index = self._lines[sex], USUAL_INDEX[sex]
        low, high = self._ages
        age = min(max(person.age if person.age is not None else USUAL_AGE, low), high)
        usual = sqrt(index * person.height_cm) / 100
        coefficients, deviations = np.array(line["coefficients"]), np.array(line["deviations"])
        root = person.root if person.root is not None else usual
        if person.root is None:
            deviations = np.hypot(deviations, coefficients[:, 2] * usual * INDEX_SPREAD / index / 2)
        return coefficients @ np.array([1.0, person.height_cm, root, age]), deviations

    def _widening(self, person: Person) -> float:
        """1 for bodies that were measured; grows with the distance of height and weight from all of them."""
        heights = [mean + side * 3 * spread for mean, spread in self._heights.values() for side in (-1, 1)]
        spread = max(spread for _, spread in self._heights.values())
        beyond = max(0.0, min(heights) - person.height_cm, person.height_cm - max(heights)) / spread
        if person.root is not None:
            low, high, root_spread = self._roots
            beyond += max(0.0, low - person.root, person.root - high) / root_spread
        return 1 + 0.25 * beyond


def _density(value: float, mean: float, spread: float) -> float:
    return float(np.exp(-(((value - mean) / spread) ** 2) / 2) / spread)
