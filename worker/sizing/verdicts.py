"""The fit of every size of a chart, place by place, in words for a customer."""

from collections.abc import Mapping
from math import inf

from worker.sizing.charts import Chart


def verdicts(chart: Chart, girths: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """Judge each size at each place that the chart limits: `{"M": {"waist": "3 cm too tight"}}`."""
    limits = {place: [getattr(size, place) for _, size in chart.sizes] for place in chart.limited}
    return {
        name: {place: _verdict(girths[place], limits[place], limits[place][index]) for place in chart.limited}
        for index, name in enumerate(chart.names)
    }


def _verdict(girth: float, limits: list[float], upper: float) -> str:
    """Judge one size at one place: a size fits from the next smaller limit up to its own."""
    if girth > upper:
        return f"{_whole(girth - upper)} cm too tight"
    lower = max((limit for limit in limits if limit < upper), default=-inf)
    if girth <= lower:
        return f"{_whole(lower - girth)} cm too loose"
    return "fits"


def _whole(centimetres: float) -> int:
    return max(1, round(centimetres))
