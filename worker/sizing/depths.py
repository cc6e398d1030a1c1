"""Depths of the trunk from a second photo, taken from the side: they tell what a front view cannot.

The scale is that of the front view: the stated height over the outline's. Depths of measured people (ANSUR II) by
height and girth turn a depth into a correction of the girth, weighed by the variances of both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.sizing.population import Expected, Person, Sex
from worker.sizing.rows import Array, between, polyline
from worker.sizing.silhouette import HIPS, KNEES, SHOULDERS, TORSO_LEVELS, Silhouette, middle

_CHEST = (TORSO_LEVELS > 0.24) & (TORSO_LEVELS < 0.46)
_WAIST = (TORSO_LEVELS > 0.39) & (TORSO_LEVELS < 0.76)
_HIP = (TORSO_LEVELS > 0.89) & (TORSO_LEVELS < 1.26)
#: What clothing, arms and hands add to the depths of chest, waist and hip, in cm, and its spread: 1.5 times that among
#: eleven measured persons in everyday clothes, docs/accuracy.md.
_SURPLUS = np.array([2.5, 2.8, 7.6])
_SURPLUS_SPREAD = np.array([3.9, 3.9, 6.9])
#: With the weight the depths say little more, and the clothes that a side view shows are those of the front view.
_SPREAD_WITH_WEIGHT = 2.0


def depths(silhouette: Silhouette, height_cm: float) -> Array:
    """Depths of chest, waist and hip in cm from the outline of a person seen from the side."""
    pose = silhouette.pose
    axis = polyline(silhouette.torso_y, [middle(pose, pair) for pair in (SHOULDERS, HIPS, KNEES)])
    along = between(pose.mask, silhouette.torso_y, axis) * height_cm / silhouette.height
    return np.array([along[_CHEST].mean(), along[_WAIST].min(), along[_HIP].max()])


@dataclass(frozen=True)
class DepthLines:
    """Depths of measured people by 1, height and girth, and their deviations."""

    coefficients: Array
    deviations: Array

    @classmethod
    def mixed(cls, stored: Mapping[str, Mapping[str, Any]], shares: Mapping[Sex, float]) -> "DepthLines":
        """The lines of people of whom these shares are women and men."""
        found = {name: sum(share * np.array(stored[sex][name]) for sex, share in shares.items()) for name in _NAMES}
        return cls(*(np.asarray(found[name], dtype=np.float64) for name in _NAMES))

    def correct(self, found: Expected, measured: Array, person: Person) -> Expected:
        """Draw the girths towards the girths that the measured depths let expect; the shoulder stays."""
        girths, variances = found.values[:3], found.deviations[:3] ** 2
        slopes = self.coefficients[:, 2]
        level = self.coefficients @ np.array([1.0, person.height_cm, 0.0])
        missing = measured - _SURPLUS - level - slopes * girths
        spread = _SURPLUS_SPREAD * (1.0 if person.weight_kg is None else _SPREAD_WITH_WEIGHT)
        noise = self.deviations**2 + spread**2
        gain = variances * slopes / (slopes**2 * variances + noise)
        return Expected(
            np.append(girths + gain * missing, found.values[3:]),
            np.append(np.sqrt(variances * (1 - gain * slopes)), found.deviations[3:]),
        )


_NAMES = ("coefficients", "deviations")
