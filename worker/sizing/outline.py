"""Girths by the outline alone: kernel ridge regression with plain arrays, written by `tests/bench/fit_sizing.py`.

Every girth is predicted as a share of the height, and beside them the weight. Rendered bodies teach the pixels, seen by
cameras that are held level and by cameras that look up or down.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worker.sizing.rows import Array

COEFFICIENTS_PATH = Path(__file__).with_name("model") / "coefficients.npz"
#: The feature that says how much of the torso's edges arms and hands hide.
HIDDEN = "hidden"
#: The narrowest row between mouth and shoulders, and the widest across the shoulders.
NECK, BREADTH = "head_9", "torso_57"
#: How many fitted bodies the strangeness of an outline is measured against.
NEIGHBOURS = 5

#: Strangeness of outlines from which clothing explains it better than the body, and from which nothing else does.
_TIGHT, _LOOSE = 0.9, 1.05
#: Clothing makes no trunk narrower than the limbs let expect: such a strange outline is that of a rare body.
_SLENDER = (-0.5, -0.2)
#: No fitted body is that strange, or that slender: gowns and cloaks hide the limbs that the trunk is compared with.
_HIDDEN_LIMBS, _TOO_SLENDER = (1.15, 1.35), (1.65, 1.85)
#: Hair that hides the neck makes a woman likely; a bare neck says less, as hair can be short or tied.
_NECK_BESIDE_SHOULDERS, _NECK_ODDS = (0.25, 0.40), (-1.1, 2.2)
#: Shoulders, as shares of the body height; ANSUR's bideltoid breadth has this slope (0.291 and 0.277, +-0.018).
_SHOULDERS, _SHOULDER_ODDS = (0.237, 0.287), (1.0, -1.0)


@dataclass(frozen=True)
class Reading:
    """Girths that an outline stands for when the clothing is tight, in the order of `population.GIRTHS`."""

    girths: Array
    #: Standard deviations of the girths, without and with the weight.
    deviations: tuple[Array, Array]
    #: The root of kg per cm of height, its deviation, and the cm of girth that a stated root adds per unit beyond it.
    root: float
    root_deviation: float
    girths_per_root: Array
    #: Distance from the fitted bodies of similar build; 1 is exceeded by one of them in a hundred.
    strangeness: float
    #: The torso's width beyond what limbs, head and joints let expect; 1 is exceeded by two bodies in a hundred.
    looseness: float
    #: Logarithm of the odds that this is a woman, by the hair beside the neck and the breadth of the shoulders.
    femininity: float = 0.0

    @property
    def clothing(self) -> float:
        """0 in tight clothing, 1 in clothing that hides the body."""
        strange = _share(self.strangeness, _TIGHT, _LOOSE) * _share(self.looseness, *_SLENDER)
        hidden = max(_share(self.strangeness, *_HIDDEN_LIMBS), _share(-self.looseness, *_TOO_SLENDER))
        return max(strange, hidden, _share(self.looseness, 1.0, 2.0))


class OutlineModel:
    """The fitted model; shared by threads."""

    def __init__(self) -> None:
        with np.load(COEFFICIENTS_PATH, allow_pickle=False) as stored:
            self._arrays: dict[str, Array] = {
                name: stored[name].astype(np.float64) for name in stored.files if stored[name].dtype.kind == "f"
            }
            self.names: tuple[str, ...] = tuple(stored["feature_names"].tolist())
            self.version = str(stored["version"])
        self._lengths = (self._arrays["rows"] ** 2).sum(axis=1)

    def read(self, features: Mapping[str, float], height_cm: float) -> Reading:
        """The girths of a body of this height with this outline."""
        arrays = self._arrays
        raw = np.array([*(features[name] for name in self.names), height_cm])
        row = (raw - arrays["mean"]) / arrays["scale"]
        distances = self._lengths - 2 * (arrays["rows"] @ row) + row @ row
        kernel = np.exp(-arrays["gamma"] * distances)
        predicted = kernel @ arrays["dual"] * arrays["target_scale"] + arrays["target_mean"]
        # Where arms hide the flanks, and for statures that no fitted body has, the errors are larger.
        spread = (1 + arrays["slope"] * features[HIDDEN]) * (1 + self._beyond(height_cm))
        return Reading(
            girths=predicted[:-1] * height_cm,
            deviations=(arrays["deviations"][0] * spread, arrays["deviations"][1] * spread),
            root=float(predicted[-1] * np.sqrt(height_cm) / 100),
            root_deviation=float(arrays["root_deviation"]),
            girths_per_root=arrays["girths_per_root"],
            strangeness=self._strangeness(distances),
            looseness=self._looseness(raw, row, height_cm),
            femininity=_femininity(features),
        )

    def _strangeness(self, distances: Array) -> float:
        """The distance to the nearest bodies over their own distances: fitted bodies of rare builds lie far apart."""
        nearest = np.argpartition(distances, NEIGHBOURS)[:NEIGHBOURS]
        usual = self._arrays["strange"] * self._arrays["apart"][nearest].mean()
        return float(np.sqrt(distances[nearest].mean()) / usual)

    def _looseness(self, raw: Array, row: Array, height_cm: float) -> float:
        arrays = self._arrays
        expected = row @ arrays["limb_weights"] + arrays["limb_intercept"]
        return float((raw @ arrays["torso_average"] - expected) * height_cm / arrays["loose_cm"])

    def _beyond(self, height_cm: float) -> float:
        """0 for statures that the model has seen, then 1 for each standard deviation."""
        low, high, deviation = self._arrays["heights"]
        return float(max(0.0, low - height_cm, height_cm - high) / deviation)


def _femininity(features: Mapping[str, float]) -> float:
    """Estimate the femininity: with the height, it tells most people apart whose clothes hide their build."""
    neck = np.interp(features[NECK] / features[BREADTH], _NECK_BESIDE_SHOULDERS, _NECK_ODDS)
    return float(neck + np.interp(features[BREADTH], _SHOULDERS, _SHOULDER_ODDS))


def _share(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on."""
    return min(1.0, max(0.0, (value - low) / (high - low)))
