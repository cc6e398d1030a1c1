"""Girths with calibrated uncertainty: real people of that height and weight first, the outline as a correction.

Each is weighed by its variance. The outline's variance grows with clothing, hidden flanks and strange statures, never
with the stated weight: so girths rise with the weight for every picture. docs/decisions/0017-real-people-first.md has
the measurements behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from worker.sizing.correction import bare_root, contradiction, correct
from worker.sizing.depths import DepthLines
from worker.sizing.outline import OutlineModel, Reading
from worker.sizing.population import Expected, Person, Population
from worker.sizing.rows import Array

Basis = Literal["prior", "front", "front+side"]

#: A half-width of a 90 % interval in standard deviations of a normal distribution.
NORMAL_90 = 1.645
#: Correlation of the errors of chest, waist and hip, without and with the weight.
_CORRELATIONS = (0.55, 0.1)
#: A weight contradicts the outline from so many standard deviations.
_CONTRADICTION = 3.0


@dataclass(frozen=True)
class Measurement:
    """One length in cm; the truth lies within `uncertainty` of `value` nine times in ten."""

    value: float
    uncertainty: float

    @property
    def deviation(self) -> float:
        """The standard deviation that the uncertainty stands for."""
        return self.uncertainty / NORMAL_90


@dataclass(frozen=True)
class Measurements:
    """The girths of one person, and what their estimate rests on."""

    chest: Measurement
    waist: Measurement
    hip: Measurement
    shoulder: Measurement
    basis: Basis
    #: Of the errors of chest, waist and hip.
    correlation: float
    #: The outline's reading; None without a photo.
    reading: Reading | None = None
    #: The weight that the outline lets expect, where the stated one contradicts it.
    weight_expected_kg: float | None = None


class Measurer:
    """The fitted models; reading them takes milliseconds, and threads may share them."""

    def __init__(self) -> None:
        self.outline = OutlineModel()
        self.population = Population()

    def measure(
        self, features: Mapping[str, float] | None, person: Person, depths: Array | None = None
    ) -> Measurements:
        """Girths of this person; weight, sex, age and depths from a side view narrow the answer when they are given."""
        reading = None if features is None else self.outline.read(features, person.height_cm)
        return self.combine(reading, person, depths)

    def combine(self, reading: Reading | None, person: Person, depths: Array | None = None) -> Measurements:
        """Girths of this person from an outline that has been read."""
        anybody = self.population.expect(person)
        if reading is None:
            return _measurements(anybody, person, None)
        found = correct(self.population.expect(person, reading.femininity), reading, person)
        # Hair that contradicts the height is no reason to say less than without the photo.
        found = replace(found, deviations=np.minimum(found.deviations, anybody.deviations))
        if depths is not None:
            lines = DepthLines.mixed(self.population.depths, self.population.shares(person, reading.femininity))
            found = lines.correct(found, depths, person)
        basis: Basis = "front" if depths is None else "front+side"
        doubt = abs(contradiction(reading, person))
        if doubt < _CONTRADICTION:
            return _measurements(found, person, reading, basis)
        without = self.population.expect(replace(person, weight_kg=None))
        widened = np.minimum(found.deviations * (doubt - 1), np.maximum(without.deviations, found.deviations))
        root = bare_root(reading, person.height_cm)
        return replace(
            _measurements(Expected(found.values, widened), person, reading, basis),
            weight_expected_kg=root**2 * person.height_cm,
        )


def _measurements(found: Expected, person: Person, reading: Reading | None, basis: Basis = "prior") -> Measurements:
    chest, waist, hip, shoulder = (
        Measurement(float(value), float(deviation * NORMAL_90))
        for value, deviation in zip(found.values, found.deviations, strict=True)
    )
    return Measurements(
        chest,
        waist,
        hip,
        shoulder,
        basis=basis,
        correlation=_CORRELATIONS[person.weight_kg is not None],
        reading=reading,
    )
