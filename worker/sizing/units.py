"""Numbers in a request that are possible in other units alone: refused with a hint."""

from math import inf

from worker.sizing.charts import Chart

#: Body-mass indices that adults live with, in kg/m².
_INDICES = (12.0, 70.0)
_KG_PER_POUND = 0.4536
#: Fewer than one adult in a hundred is above the first; as pounds, the same number must be a usual weight.
_RARE_INDEX, _USUAL_INDICES = 45.0, (17.0, 35.0)
#: No adult's largest size ends below these girths in cm; in inches every one does.
_INCHES = {"chest": 60.0, "waist": 50.0, "hip": 60.0}
#: From this stature on; charts for small children end below.
_GROWN_CM = 130.0


def check_weight(weight_kg: float, height_cm: float) -> None:
    """Refuse a weight that no body of this height has.

    Raises:
        ValueError: the sentence says what is possible, and if pounds would be.
    """
    square = (height_cm / 100) ** 2
    low, high = (index * square for index in _INDICES)
    if low <= weight_kg <= high:
        return
    pounds = weight_kg * _KG_PER_POUND
    advice = f" If it is in pounds, send {pounds:.1f}." if weight_kg > high and low <= pounds <= high else ""
    raise ValueError(
        f"weight_kg {weight_kg:g} is impossible with height_cm {height_cm:g}: from {low:.0f} to {high:.0f} kg are "
        f"possible.{advice}"
    )


def if_pounds(weight_kg: float, height_cm: float) -> float | None:
    """The weight in kg if the number was rather meant in pounds, else None."""
    square = (height_cm / 100) ** 2
    low, high = (index * square for index in _USUAL_INDICES)
    pounds = weight_kg * _KG_PER_POUND
    return pounds if weight_kg > _RARE_INDEX * square and low <= pounds <= high else None


def check_chart(chart: Chart, height_cm: float) -> None:
    """Refuse a chart that is in inches.

    Raises:
        ValueError: the sentence names the size and the limit.
    """
    if height_cm < _GROWN_CM:
        return
    name, largest = chart.sizes[-1]
    for girth, least in _INCHES.items():
        limit = getattr(largest, girth)
        if limit < least and limit < inf:
            raise ValueError(
                f"Size {name} ends at {girth}_cm {limit:g}, too small for any adult: limits are in cm, and one "
                "inch is 2.54 cm."
            )
