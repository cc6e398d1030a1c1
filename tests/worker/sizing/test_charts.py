from math import inf

import pytest

from worker.sizing.charts import DEFAULT_CHART, Chart, Limits


@pytest.mark.parametrize(
    ("chest", "size"),
    [(60, "XS"), (84, "XS"), (84.1, "S"), (92, "S"), (100, "M"), (108, "L"), (116, "XL"), (116.1, "XXL")],
)
def test_default_chart_has_the_contracts_limits(chest: float, size: str) -> None:
    assert DEFAULT_CHART.sizes[DEFAULT_CHART.size(chest)][0] == size


def test_waist_and_hip_can_ask_for_a_larger_size() -> None:
    chart = Chart((("S", Limits(90, 70, 95)), ("M", Limits(98, 78, 103)), ("L", Limits(106))))

    assert chart.size(88, 69, 94) == 0
    assert chart.size(88, 75, 94) == 1
    assert chart.size(88, 69, 110) == 2


def test_limits_that_fall_are_refused() -> None:
    with pytest.raises(ValueError, match="chest limits"):
        Chart((("S", Limits(90)), ("M", Limits(80))))


def test_chance_is_high_in_the_middle_and_one_half_on_the_neighbours_far_limit() -> None:
    assert DEFAULT_CHART.chance_within_one(2, 96, 4) == pytest.approx(0.997, abs=0.002)
    assert DEFAULT_CHART.chance_within_one(3, 92, 1) == pytest.approx(0.5, abs=0.01)


def test_ends_of_the_chart_are_open() -> None:
    assert DEFAULT_CHART.chance_within_one(0, -1000, 1) == pytest.approx(1)
    assert DEFAULT_CHART.chance_within_one(5, 1000, 1) == pytest.approx(1)
    assert DEFAULT_CHART.sizes[-1][1].chest == inf
