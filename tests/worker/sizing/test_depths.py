"""Depths from a side view, and what they make of the girths."""

from itertools import pairwise

import numpy as np
import pytest

from worker.sizing.depths import DepthLines
from worker.sizing.measurements import Measurer
from worker.sizing.population import Expected, Person


@pytest.fixture(scope="module")
def lines(measurer: Measurer) -> DepthLines:
    return DepthLines.mixed(measurer.population.depths, {"M": 1.0})


def test_deeper_trunk_has_larger_girths_and_both_views_together_are_surer(lines: DepthLines) -> None:
    front = Expected(np.array([100.0, 86.0, 98.0, 38.0]), np.array([7.0, 7.0, 6.0, 1.5]))

    slim, deep = (lines.correct(front, np.array([24.0, 22.0, 28.0]) + more, Person(178)) for more in (0, 5))

    assert (deep.values[:3] > slim.values[:3] + 1).all()
    assert (deep.deviations[:3] < 0.97 * front.deviations[:3]).all()
    assert (deep.values[3], deep.deviations[3]) == (38.0, 1.5)


def test_sure_girths_are_hardly_moved(lines: DepthLines) -> None:
    front = Expected(np.array([100.0, 86.0, 98.0, 38.0]), np.array([1.0, 1.0, 1.0, 1.0]))

    found = lines.correct(front, np.array([40.0, 40.0, 40.0]), Person(178))

    assert (abs(found.values - front.values) < 1.5).all()


def test_depths_count_less_beside_a_weight(lines: DepthLines) -> None:
    front = Expected(np.array([100.0, 86.0, 98.0, 38.0]), np.array([7.0, 7.0, 6.0, 1.5]))

    alone, beside = (lines.correct(front, np.array([34.0, 32.0, 38.0]), Person(178, kg)) for kg in (None, 80.0))

    assert (abs(beside.values - front.values)[:3] < 0.5 * abs(alone.values - front.values)[:3]).all()


def test_girths_rise_with_the_weight_whatever_the_side_view_shows(measurer: Measurer) -> None:
    seen = dict(zip(measurer.outline.names, measurer.outline._arrays["mean"], strict=False)) | {"hidden": 0.2}
    found = [
        [getattr(measurer.measure(seen, Person(175, weight), np.array([40.0, 18.0, 40.0])), girth).value for girth in g]
        for weight in np.linspace(37, 214, 60)
        for g in [("chest", "waist", "hip")]
    ]

    assert all((np.array(heavier) > lighter).all() for lighter, heavier in pairwise(found))
