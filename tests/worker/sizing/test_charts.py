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
    assert DEFAULT_CHART.chance_within_one(2, chest=(96, 4)) == pytest.approx(0.997, abs=0.002)
    assert DEFAULT_CHART.chance_within_one(3, chest=(92, 1)) == pytest.approx(0.5, abs=0.01)


def test_chance_counts_the_girth_that_asks_for_the_size() -> None:
    sizes = (("S", Limits(90, 70)), ("M", Limits(98, 78)), ("L", Limits(106, 86)), ("XL", Limits(114, 94)))
    chart = Chart(sizes)
    assert chart.size(80, 90) == 3
    assert chart.chance_within_one(3, chest=(80, 2), waist=(90, 2)) > 0.99  # by chest alone it would be S
    assert chart.chance_within_one(1, chest=(95, 2), waist=(86, 2)) == pytest.approx(0.5, abs=0.01)


def test_ends_of_the_chart_are_open() -> None:
    assert DEFAULT_CHART.chance_within_one(0, chest=(-1000, 1)) == pytest.approx(1)
    assert DEFAULT_CHART.chance_within_one(5, chest=(1000, 1)) == pytest.approx(1)
    assert DEFAULT_CHART.sizes[-1][1].chest == inf
