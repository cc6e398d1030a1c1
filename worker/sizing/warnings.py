"""Codes for what makes an estimate less certain, and a hint what to change."""

from worker.sizing.measurements import Measurements
from worker.sizing.population import Person
from worker.sizing.silhouette import Silhouette
from worker.sizing.units import if_pounds

#: Hidden rows of the torso's edges.
_HIDDEN = 0.35
#: Rendered bodies in tight clothing stay far below.
_STRANGE = 1.5


def warnings(silhouette: Silhouette | None, measured: Measurements) -> list[str]:
    """The codes about the picture, none of which refuses it."""
    reading = measured.reading
    if silhouette is None or reading is None:
        return []
    found = {
        "arms_touch_torso": float(silhouette.hidden.mean()) > _HIDDEN,
        "loose_clothing": reading.clothing > 0.5 or reading.looseness > 1,
        "unusual_outline": reading.strangeness > _STRANGE,
    }
    return [code for code, holds in found.items() if holds]


def weight_hint(measured: Measurements, person: Person) -> str:
    """A sentence for the customer whose weight contradicts the photo or looks like pounds; else nothing."""
    if person.weight_kg is None:
        return ""
    if measured.weight_expected_kg is not None:
        found = f"{person.weight_kg:g} kg contradicts the photo, which looks like {measured.weight_expected_kg:.0f} kg."
        if person.weight_kg > measured.weight_expected_kg:
            return f"{found} Check the weight and its unit (kilograms, not pounds), or the photo."
        return f"{found} Check the weight, or take the photo in tight clothing: wide clothing looks heavy."
    meant = if_pounds(person.weight_kg, person.height_cm) if measured.reading is None else None
    return "" if meant is None else f"{person.weight_kg:g} kg is rare. If it is in pounds, send {meant:.1f}."
