"""Features of the outline, height, and perhaps weight and sex, to girths with calibrated uncertainty.

The model is kernel ridge regression with plain arrays, written by `tests/bench/fit_sizing.py`. It predicts each girth
as a share of the height, one model for every combination of optional inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

COEFFICIENTS_PATH = Path(__file__).with_name("model") / "coefficients.npz"

GIRTHS = ("chest", "waist", "hip", "shoulder")
Sex = Literal["F", "M"]
#: A half-width of a 90 % interval in standard deviations of a normal distribution.
NORMAL_90 = 1.645
#: Optional inputs in the order of the coefficients' columns.
EXTRAS = ("bmi", "sex")
VARIANTS = ("plain", "bmi", "sex", "bmi_sex")
#: The feature that says how much of the torso's edges arms and hands hide.
HIDDEN = "hidden"
#: How many fitted bodies the strangeness of an outline is measured against.
NEIGHBOURS = 5


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
    """What the model says about one person."""

    chest: Measurement
    waist: Measurement
    hip: Measurement
    shoulder: Measurement
    #: Distance from the bodies that the model was fitted on; 1 is exceeded by one of them in a hundred, and at the
    #: limits of their heights and body-mass indices, from where each standard deviation adds 1.
    strangeness: float
    #: How much wider the torso is than limbs, head and joints let expect; 1 is exceeded by two bodies in a hundred.
    looseness: float


class Measurer:
    """The fitted model; reading it takes milliseconds, and it may be shared by threads."""

    def __init__(self, path: Path = COEFFICIENTS_PATH) -> None:
        with np.load(path, allow_pickle=False) as stored:
            self._arrays: dict[str, NDArray[np.float64]] = {
                name: stored[name].astype(np.float64) for name in stored.files if stored[name].dtype.kind == "f"
            }
            self.names: tuple[str, ...] = tuple(stored["feature_names"].tolist())
            self.version = str(stored["version"])
        self._lengths = (self._arrays["rows"] ** 2).sum(axis=1)
        heights = self._arrays["rows"][:, -1] * self._arrays["scale"][-1] + self._arrays["mean"][-1]
        indices = self._arrays["extras"][:, 0] * self._arrays["extra_scale"][0] + self._arrays["extra_mean"][0]
        self._fitted = [(fitted.min(), fitted.max(), fitted.std()) for fitted in (heights, indices)]

    def measure(
        self, features: Mapping[str, float], height_cm: float, weight_kg: float | None = None, sex: Sex | None = None
    ) -> Measurements:
        """Girths of a body of this height; weight and sex narrow the answer when they are given."""
        arrays = self._arrays
        raw = np.array([*(features[name] for name in self.names), height_cm])
        row = (raw - arrays["mean"]) / arrays["scale"]
        expected = row @ arrays["limb_weights"] + arrays["limb_intercept"]
        looseness = float((raw @ arrays["torso_average"] - expected) * height_cm / arrays["loose_cm"])
        distances = self._lengths - 2 * (arrays["rows"] @ row) + row @ row
        strangeness = float(np.sqrt(np.partition(distances, NEIGHBOURS)[:NEIGHBOURS].mean()) / arrays["strange"])
        strangeness = max(strangeness, self._beyond(height_cm, weight_kg))
        variant, known, values = given(height_cm, weight_kg, sex)
        scaled = (values - arrays["extra_mean"][known]) / arrays["extra_scale"][known]
        distances = distances + ((arrays["extras"][:, known] - scaled) ** 2).sum(axis=1)
        kernel = np.exp(-arrays["gamma"] * distances)
        shares = kernel @ arrays[f"dual_{variant}"] * arrays["target_scale"] + arrays["target_mean"]
        # Beyond what was fitted on, in loose clothing, and where arms hide the flanks, the errors are larger.
        spread = (1 + arrays[f"slope_{variant}"] * features[HIDDEN]) * max(1.0, strangeness)
        spread[:3] *= max(1.0, 2 * looseness - 1)
        halves = arrays[f"quantile_{variant}"] * spread
        girths = [
            Measurement(float(share * height_cm), float(half)) for share, half in zip(shares, halves, strict=True)
        ]
        chest, waist, hip, shoulder = girths
        return Measurements(chest, waist, hip, shoulder, strangeness, looseness)

    def _beyond(self, height_cm: float, weight_kg: float | None) -> float:
        """The strangeness of height and body-mass index alone: 0 for those that the model has seen."""
        stated = [height_cm] if weight_kg is None else [height_cm, body_mass_index(height_cm, weight_kg)]
        farthest = max(
            max(low - value, value - high) / deviation
            for value, (low, high, deviation) in zip(stated, self._fitted, strict=False)
        )
        return float(1 + farthest) if farthest > 0 else 0.0


def body_mass_index(height_cm: float, weight_kg: float) -> float:
    """kg/m²."""
    return weight_kg / (height_cm / 100) ** 2


def given(height_cm: float, weight_kg: float | None, sex: Sex | None) -> tuple[str, list[int], NDArray[np.float64]]:
    """The model variant for what is known of the body-mass index and the sex, their columns, and their values."""
    found = {
        0: None if weight_kg is None else body_mass_index(height_cm, weight_kg),
        1: None if sex is None else float(sex == "M"),
    }
    known = [column for column, value in found.items() if value is not None]
    variant = "_".join(EXTRAS[column] for column in known) or "plain"
    return variant, known, np.array([found[column] for column in known], dtype=np.float64)
