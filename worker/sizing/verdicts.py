"""The fit of every size of a chart, place by place, in words for a customer."""

from collections.abc import Mapping
from math import inf

from worker.sizing.charts import Chart, Limits


def verdicts(chart: Chart, girths: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """By size and place, such as `{"M": {"waist": "3 cm too tight"}}`; places that the chart limits."""
    found: dict[str, dict[str, str]] = {}
    smaller = Limits(-inf, -inf, -inf)
    for name, limits in chart.sizes:
        found[name] = {
            place: _verdict(girths[place], getattr(smaller, place), getattr(limits, place)) for place in chart.limited
        }
        smaller = limits
    return found


def _verdict(girth: float, lower: float, upper: float) -> str:
    """A size fits from the limit of the next smaller size up to its own."""
    if girth > upper:
        return f"{_whole(girth - upper)} cm too tight"
    # A smaller size without a limit takes every girth.
    if girth <= lower < inf:
        return f"{_whole(lower - girth)} cm too loose"
    return "fits"


def _whole(centimetres: float) -> int:
    return max(1, round(centimetres))
