"""Codes for what makes an estimate less certain, and a hint what to change."""

from worker.sizing.measurements import Measurements
from worker.sizing.population import Person
from worker.sizing.silhouette import Silhouette

#: Hidden rows of the torso's edges.
_HIDDEN = 0.35
#: Rendered bodies in tight clothing stay far below.
_STRANGE = 1.5


def warnings(silhouette: Silhouette | None, measured: Measurements) -> list[str]:
    """The codes, none of which refuses the picture."""
    reading = measured.reading
    found = {"weight_unlikely": measured.weight_expected_kg is not None}
    if silhouette is not None and reading is not None:
        found |= {
            "arms_touch_torso": float(silhouette.hidden.mean()) > _HIDDEN,
            "loose_clothing": reading.clothing > 0.5 or reading.looseness > 1,
            "unusual_outline": reading.strangeness > _STRANGE,
        }
    return [code for code, holds in found.items() if holds]


def hint(measured: Measurements, person: Person) -> str:
    """A sentence for the customer where stated weight and outline contradict each other, else nothing."""
    if measured.weight_expected_kg is None or person.weight_kg is None:
        return ""
    found = f"{person.weight_kg:g} kg contradicts the photo, which looks like {measured.weight_expected_kg:.0f} kg."
    if person.weight_kg > measured.weight_expected_kg:
        return f"{found} Check the weight and its unit (kilograms, not pounds), or the photo."
    return f"{found} Check the weight, or take the photo in tight clothing: wide clothing looks heavy."
