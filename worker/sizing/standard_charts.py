"""Charts that shops without one of their own choose by name, by chest alone."""

from collections.abc import Mapping
from math import inf
from typing import Literal

from worker.sizing.charts import Chart, Limits

ChartName = Literal["unisex-eu", "men-eu", "women-eu"]

_LETTERS = ("XS", "S", "M", "L", "XL", "XXL")


def _by_chest(*limits: float) -> Chart:
    return Chart(tuple((name, Limits(chest=limit)) for name, limit in zip(_LETTERS, limits, strict=True)))


#: Today's chart (docs/contracts.md, Size API).
DEFAULT_CHART = _by_chest(84, 92, 100, 108, 116, inf)
#: Men's and women's are the letter codes of EN 13402-3: upper ends of chest and bust girth (sources in
#: docs/accuracy.md, Charts). The standard leaves 106 to 107 cm between women's L and XL; here that is an L.
STANDARD_CHARTS: Mapping[ChartName, Chart] = {
    "unisex-eu": DEFAULT_CHART,
    "men-eu": _by_chest(86, 94, 102, 110, 118, 129),
    "women-eu": _by_chest(82, 90, 98, 107, 119, 131),
}
