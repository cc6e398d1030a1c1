"""The fitted model on features of real pictures, and its coefficients file."""

import json

import numpy as np
import pytest

from tests.worker.sizing.conftest import picture
from worker.sizing.features import features
from worker.sizing.measurements import COEFFICIENTS_PATH, GIRTHS, Measurer
from worker.sizing.photo import reduce
from worker.sizing.pose import Landmarker
from worker.sizing.silhouette import trace


@pytest.fixture(scope="module")
def outline(landmarker: Landmarker) -> dict[str, float]:
    image = reduce(picture("b002.jpg")).picture
    silhouette = trace(landmarker.detect(np.asarray(image))[0], np.asarray(image))
    assert silhouette is not None
    return features(silhouette)


def test_coefficients_name_their_version_data_and_features(outline: dict[str, float], measurer: Measurer) -> None:
    with np.load(COEFFICIENTS_PATH) as stored:
        provenance = json.loads(str(stored["provenance"]))

    assert measurer.version
    assert "SHA-256" in provenance["data"]
    assert set(measurer.names) <= set(outline)


def test_same_outline_of_a_taller_person_is_larger(outline: dict[str, float], measurer: Measurer) -> None:
    small, tall = measurer.measure(outline, 165), measurer.measure(outline, 180)

    assert all(getattr(tall, girth).value > getattr(small, girth).value for girth in GIRTHS)


def test_heavier_person_is_larger(outline: dict[str, float], measurer: Measurer) -> None:
    light, heavy = measurer.measure(outline, 175, 68), measurer.measure(outline, 175, 84)

    assert heavy.chest.value > light.chest.value + 2
    assert heavy.waist.value > light.waist.value + 2


def test_hidden_flanks_and_strange_outlines_widen_the_interval(outline: dict[str, float], measurer: Measurer) -> None:
    usual = measurer.measure(outline, 175)
    hidden = measurer.measure({**outline, "hidden": 0.6}, 175)
    strange = measurer.measure({name: value * 1.3 for name, value in outline.items()}, 175)

    assert hidden.chest.uncertainty > 1.1 * usual.chest.uncertainty
    assert strange.strangeness > 1 > usual.strangeness
    assert strange.chest.uncertainty > 1.3 * usual.chest.uncertainty


@pytest.mark.parametrize(("height", "weight"), [(100, None), (250, None), (170, 25), (170, 350)])
def test_stated_body_unlike_all_that_were_fitted_widens_the_interval(
    outline: dict[str, float], measurer: Measurer, height: float, weight: float | None
) -> None:
    usual = measurer.measure(outline, 170, weight and 70)
    strange = measurer.measure(outline, height, weight)

    assert strange.strangeness > 1 > usual.strangeness
    assert strange.chest.uncertainty > 2 * usual.chest.uncertainty


def test_torso_wider_than_limbs_and_head_let_expect_is_taken_for_loose_clothing(
    outline: dict[str, float], measurer: Measurer
) -> None:
    loose = {name: value + (0.035 if name.startswith("torso_") else 0) for name, value in outline.items()}

    usual, wide = measurer.measure(outline, 175), measurer.measure(loose, 175)

    assert usual.looseness < 1 < wide.looseness
    assert wide.chest.value > usual.chest.value + 5
    assert wide.chest.uncertainty > 1.5 * usual.chest.uncertainty
    assert wide.shoulder.uncertainty < 1.5 * usual.shoulder.uncertainty
