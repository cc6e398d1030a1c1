from math import inf

import pytest

from worker.sizing.charts import Chart, Limits, Normal
from worker.sizing.standard_charts import DEFAULT_CHART, STANDARD_CHARTS

SIZES = Chart((("S", Limits(90, 70)), ("M", Limits(98, 78)), ("L", Limits(106, 86)), ("XL", Limits(114, 94))))


@pytest.mark.parametrize(
    ("chest", "size"),
    [(60, "XS"), (84, "XS"), (84.1, "S"), (92, "S"), (100, "M"), (108, "L"), (116, "XL"), (116.1, "XXL")],
)
def test_default_chart_has_the_contracts_limits(chest: float, size: str) -> None:
    assert DEFAULT_CHART.names[DEFAULT_CHART.size(chest)] == size


def test_waist_and_hip_can_ask_for_a_larger_size() -> None:
    chart = Chart((("S", Limits(90, 70, 95)), ("M", Limits(98, 78, 103)), ("L", Limits(106))))

    assert chart.size(88, 69, 94) == 0
    assert chart.size(88, 75, 94) == 1
    assert chart.size(88, 69, 110) == 2


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((("S", Limits(90)), ("M", Limits(80))), "chest limits .* S has 90 cm and M has 80 cm"),
        (
            (("S", Limits(90, 70)), ("M", Limits(98)), ("L", Limits(106, 86))),
            "Size L limits the waist .* waist_cm for M",
        ),
        ((("S", Limits(90)), ("S/M", Limits(90))), "Sizes S and S/M have the same limits"),
        ((("\u00c9", Limits(90)), ("E\u0301", Limits(98))), "Two sizes are both shown as \u00c9"),
        ((("S", Limits(90)), ("S\u200b", Limits(98))), "Two sizes are both shown as S"),
        ((("S", Limits(90)), ("S\u3000", Limits(98))), "Two sizes are both shown as S"),
        ((("\u200b", Limits(90)), ("M", Limits(98))), "invisible signs alone"),
        ((("S\u202e", Limits(90)), ("M", Limits(98))), "invisible sign RIGHT-TO-LEFT OVERRIDE"),
        ((), "at least one size"),
    ],
)
def test_a_chart_that_makes_no_sense_is_explained_by_the_sizes(
    sizes: tuple[tuple[str, Limits], ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Chart(sizes)


def test_names_may_be_of_any_script() -> None:
    names = ["\u5c0f", "\u0645\u062a\u0648\u0633\u0637", "Gr\u00f6\u00dfe 56\u00bd", "\U0001f455 XL"]

    assert Chart(tuple((name, Limits(90 + 8 * index)) for index, name in enumerate(names))).names == names


def test_probabilities_follow_the_distribution_and_sum_to_one() -> None:
    found = DEFAULT_CHART.probabilities({"chest": Normal(96, 4)})

    assert found == pytest.approx([0.0013, 0.157, 0.683, 0.157, 0.0013, 0.0], abs=0.002)
    assert sum(found) == pytest.approx(1)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_correlation_leaves_the_chance_by_one_girth_alone(correlation: float) -> None:
    found = DEFAULT_CHART.chance_to_fit(2, {"chest": Normal(96, 4)}, correlation)

    assert found == pytest.approx(0.683, abs=0.01)


def test_girths_whose_errors_go_together_are_within_their_limits_together() -> None:
    girths = {"chest": Normal(90, 4), "waist": Normal(70, 4)}

    assert SIZES.chance_to_fit(0, girths, 0.0) == pytest.approx(0.25, abs=0.01)
    assert SIZES.chance_to_fit(0, girths, 0.9) > 0.4


def test_chance_counts_the_girth_that_asks_for_the_size() -> None:
    assert SIZES.size(80, 90) == 3
    assert SIZES.chance_to_fit(3, {"chest": Normal(80, 2), "waist": Normal(90, 1)}) > 0.99  # by chest alone: S


def test_largest_size_stands_for_larger_people_but_does_not_fit_them() -> None:
    girths = {"chest": Normal(130, 2), "waist": Normal(90, 2)}

    assert SIZES.probabilities(girths)[-1] == pytest.approx(1)
    assert SIZES.chance_to_fit(3, girths) == pytest.approx(0)


def test_ends_of_the_default_chart_are_open() -> None:
    assert DEFAULT_CHART.chance_to_fit(0, {"chest": Normal(-1000, 1)}) == pytest.approx(1)
    assert DEFAULT_CHART.chance_to_fit(5, {"chest": Normal(1000, 1)}) == pytest.approx(1)
    assert DEFAULT_CHART.sizes[-1][1].chest == inf


def test_chart_without_chest_decides_by_the_others() -> None:
    chart = Chart((("36", Limits(waist=70, hip=95)), ("38", Limits(waist=74, hip=99))))

    assert chart.limited == ["waist", "hip"]
    assert chart.size(200, 72, 90) == 1


def test_default_chart_is_the_unisex_one_and_women_s_sizes_are_smaller_than_men_s() -> None:
    assert STANDARD_CHARTS["unisex-eu"] is DEFAULT_CHART
    assert {name: chart.names[chart.size(95)] for name, chart in STANDARD_CHARTS.items()} == {
        "unisex-eu": "M",
        "men-eu": "M",
        "women-eu": "M",
    }
    assert [STANDARD_CHARTS[name].size(92.5) for name in ("men-eu", "unisex-eu", "women-eu")] == [1, 2, 2]
