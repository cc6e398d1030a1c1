"""Numbers in a request that are possible in other units alone: refused with a hint."""

from math import ceil, floor

from worker.sizing.charts import Chart

#: Body-mass indices that adults live with, in kg/m².
_INDICES = (12.0, 70.0)
_KG_PER_POUND = 0.4536
#: Fewer than one adult in a hundred is above the first; as pounds, the same number must be a usual weight.
_RARE_INDEX, _USUAL_INDICES = 45.0, (17.0, 35.0)
#: No adult's largest size ends below these girths in cm; in inches most do.
_LARGEST = {"chest": 60.0, "waist": 50.0, "hip": 60.0}
#: No newborn's size does; in inches every chart's smallest size, also where the largest is one of 64 inches.
_SMALLEST = {"chest": 42.0, "waist": 40.0, "hip": 42.0}
#: From this stature on; charts for small children end below.
_GROWN_CM = 130.0


def check_weight(weight_kg: float, height_cm: float) -> None:
    """Refuse a weight that no body of this height has; the ValueError says what is possible, and if pounds would be."""
    square = (height_cm / 100) ** 2
    # Rounded: 70 times 1.7² is less than 202.3, and that weight is at the limit, not above.
    low, high = (round(index * square, 6) for index in _INDICES)
    if low <= weight_kg <= high:
        return
    pounds = weight_kg * _KG_PER_POUND
    advice = f" If it is in pounds, send {pounds:.1f}." if weight_kg > high and low <= pounds <= high else ""
    raise ValueError(
        f"weight_kg {weight_kg:g} is impossible with height_cm {height_cm:g}: from {ceil(low)} to {floor(high)} kg are "
        f"possible.{advice}"
    )


def if_pounds(weight_kg: float, height_cm: float) -> float | None:
    """The weight in kg if the number was rather meant in pounds, else None."""
    square = (height_cm / 100) ** 2
    low, high = (index * square for index in _USUAL_INDICES)
    pounds = weight_kg * _KG_PER_POUND
    return pounds if weight_kg > _RARE_INDEX * square and low <= pounds <= high else None


def check_chart(chart: Chart, height_cm: float) -> None:
    """Refuse a chart that is in inches; the ValueError names the size and the limit."""
    if height_cm < _GROWN_CM:
        return
    for (name, limits), possible in ((chart.sizes[-1], _LARGEST), (chart.sizes[0], _SMALLEST)):
        for girth, least in possible.items():
            limit = getattr(limits, girth)
            if limit < least:
                raise ValueError(
                    f"Size {name} ends at {girth}_cm {limit:g}, too small for any adult: limits are in cm, and one "
                    "inch is 2.54 cm."
                )
