"""Girths from the population and the outline together."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.worker.sizing.conftest import picture
from worker.sizing.features import features
from worker.sizing.measurements import Measurements, Measurer
from worker.sizing.mirror import mirrored
from worker.sizing.outline import BREADTH, COEFFICIENTS_PATH, NECK
from worker.sizing.photo import reduce
from worker.sizing.population import GIRTHS, Person, Sex
from worker.sizing.pose import Landmarker, X
from worker.sizing.silhouette import SHOULDERS, trace
from worker.sizing.views import from_front
from worker.sizing.warnings import weight_hint

Outline = dict[str, float]


@pytest.fixture(scope="module")
def outline(landmarker: Landmarker) -> Outline:
    """A man of 75 kg in tight clothing."""
    image = reduce(picture("b002.jpg")).picture
    silhouette = trace(landmarker.detect(np.asarray(image))[0], np.asarray(image))
    assert silhouette is not None
    return features(silhouette)


@pytest.fixture(scope="module")
def clothed(outline: Outline) -> Outline:
    """The same man in clothing that hides him."""
    return {name: value * 1.3 + 0.02 * name.startswith("torso_") for name, value in outline.items()}


def values(measured: Measurements) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([getattr(measured, girth).value for girth in GIRTHS])


def halves(measured: Measurements) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([getattr(measured, girth).uncertainty for girth in GIRTHS])


def test_coefficients_name_their_version_data_and_features(outline: Outline, measurer: Measurer) -> None:
    with np.load(COEFFICIENTS_PATH) as stored:
        provenance = json.loads(str(stored["provenance"]))

    assert measurer.outline.version
    assert "SHA-256" in provenance["data"]
    assert set(measurer.outline.names) <= set(outline)


def test_same_outline_of_a_taller_person_is_larger(outline: Outline, measurer: Measurer) -> None:
    small, tall = (measurer.measure(outline, Person(height)) for height in (165, 180))

    assert (values(tall) > values(small)).all()


@pytest.mark.parametrize("sex", [None, "F", "M"])
@pytest.mark.parametrize("hidden", [0.0, 0.6])
@pytest.mark.parametrize("wide", [False, True])
def test_girths_rise_with_the_weight_for_every_picture(
    sex: Sex | None, hidden: float, wide: bool, outline: Outline, clothed: Outline, measurer: Measurer
) -> None:
    seen = {**(clothed if wide else outline), "hidden": hidden}
    found = [values(measurer.measure(seen, Person(175, weight, sex))) for weight in np.linspace(25, 350, 60)]

    assert all((heavier > lighter).all() for lighter, heavier in pairwise(found))


@pytest.mark.parametrize("name", ["b000.jpg", "b007.jpg", "b031.jpg"])
def test_mirrored_and_slightly_cropped_pictures_get_nearly_the_same_girths(
    name: str, landmarker: Landmarker, measurer: Measurer
) -> None:
    image = picture(name)
    width, height = image.size
    versions = {
        "as it is": image,
        "mirrored": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "cropped": image.crop((round(0.04 * width), round(0.02 * height), width, height)),
    }
    found = []
    for version in versions.values():
        _, reading = from_front(reduce(version), 170, landmarker, measurer)
        found.append(values(measurer.combine(reading, Person(170, 70)))[:3])

    # Observers differ by 1.2 to 1.4 cm, and the half-widths are 4 to 6.
    assert np.ptp(found, axis=0).max() < 4


@pytest.mark.parametrize("quarters", [None, Image.Transpose.ROTATE_90], ids=["upright", "lying"])
def test_picture_and_its_mirror_get_the_same_girths_and_mirrored_outlines(
    quarters: Image.Transpose | None, landmarker: Landmarker, measurer: Measurer
) -> None:
    image = reduce(picture("b000.jpg")).picture
    photo = reduce(image if quarters is None else image.transpose(quarters))
    (one, one_reading), (other, other_reading) = (
        from_front(seen, 170, landmarker, measurer) for seen in (photo, mirrored(photo))
    )

    assert (one_reading.girths == other_reading.girths).all()
    assert (one.pose.mask == other.pose.mask[:, ::-1]).all()
    assert (one.quarter_turns + other.quarter_turns) % 4 == 0
    for silhouette in (one, other):
        left, right = silhouette.pose.landmarks[list(SHOULDERS), X]
        inside = silhouette.pose.mask >= 0.5
        row = round(silhouette.torso_y[30])
        assert inside.shape == image.size[::-1]
        # The person's left is on the right-hand side of the picture, and the traced edges are those of the mask.
        assert left > right
        assert silhouette.torso_x[30, 0] > silhouette.torso_x[30, 1]
        assert inside[row, round(silhouette.torso_x[30].mean())]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.floats(100, 250), st.none() | st.floats(12, 70), st.floats(0.9, 1.5))
def test_interval_is_never_wider_than_without_the_photo_and_weight(
    outline: Outline, measurer: Measurer, height: float, index: float | None, size: float
) -> None:
    weight = None if index is None else index * (height / 100) ** 2
    seen = {name: value * size for name, value in outline.items()}
    found = halves(measurer.measure(seen, Person(height, weight)))
    widest = np.maximum(
        halves(measurer.measure(None, Person(height, weight))), halves(measurer.measure(None, Person(height)))
    )

    assert (found > 0).all()
    assert (found <= widest + 1e-9).all()


def test_outline_counts_less_the_stranger_the_clothing_makes_it(
    outline: Outline, clothed: Outline, measurer: Measurer
) -> None:
    person = Person(175, 75, "M")
    prior = values(measurer.measure(None, person))
    tight, wide = (measurer.measure(seen, person) for seen in (outline, clothed))
    assert tight.reading is not None
    assert wide.reading is not None

    assert (tight.reading.clothing, wide.reading.clothing) == (0, 1)
    assert (halves(wide)[:3] > halves(tight)[:3]).all()
    assert abs(values(wide) - prior)[0] < 0.35 * abs(wide.reading.girths - prior)[0]


@pytest.mark.parametrize(
    ("strangeness", "looseness", "clothing"),
    [(1.1, 0.0, 1), (1.1, -1.0, 0), (1.4, -1.0, 1), (0.8, -3.7, 1), (0.8, 0.0, 0)],
    ids=[
        "strange",
        "strange with a slender trunk: a rare body",
        "stranger than any body: a cloak",
        "slenderer than any body",
        "usual",
    ],
)
def test_clothing_is_told_from_rare_bodies(
    strangeness: float, looseness: float, clothing: float, outline: Outline, measurer: Measurer
) -> None:
    reading = replace(measurer.outline.read(outline, 175), strangeness=strangeness, looseness=looseness)

    assert reading.clothing == clothing


def test_hair_and_shoulders_tell_whose_lines_count_when_the_clothes_hide_the_build(
    clothed: Outline, measurer: Measurer
) -> None:
    long_hair = {**clothed, NECK: 0.5 * clothed[BREADTH]}
    hips = {
        name: measurer.measure(seen, person).hip.value
        for name, seen, person in (
            ("unknown", long_hair, Person(170, 70)),
            ("woman", long_hair, Person(170, 70, "F")),
            ("man", long_hair, Person(170, 70, "M")),
            ("short hair", clothed, Person(170, 70)),
        )
    }

    assert hips["man"] < hips["short hair"] < hips["unknown"] < hips["woman"]


def test_hidden_flanks_widen_the_interval(outline: Outline, measurer: Measurer) -> None:
    seen, hidden = (measurer.measure({**outline, "hidden": share}, Person(175)) for share in (0.0, 0.6))

    assert (halves(hidden)[:3] > 1.05 * halves(seen)[:3]).all()


def test_torso_wider_than_limbs_and_head_let_expect_is_taken_for_loose_clothing(
    outline: Outline, measurer: Measurer
) -> None:
    loose = {name: value + (0.035 if name.startswith("torso_") else 0) for name, value in outline.items()}

    usual, wide = (measurer.measure(seen, Person(175)) for seen in (outline, loose))
    assert usual.reading is not None
    assert wide.reading is not None

    assert usual.reading.looseness < 1 < wide.reading.looseness
    assert wide.chest.uncertainty > 1.2 * usual.chest.uncertainty


@pytest.mark.parametrize(("weight", "advice"), [(50, "tight clothing"), (180, "not pounds")])
def test_weight_that_contradicts_the_photo_is_told_and_doubted(
    weight: float, advice: str, outline: Outline, measurer: Measurer
) -> None:
    right, wrong = (Person(175, kilograms, "M") for kilograms in (75, weight))
    usual, doubted = (measurer.measure(outline, person) for person in (right, wrong))

    assert weight_hint(usual, right) == ""
    assert advice in weight_hint(doubted, wrong)
    assert (halves(doubted) > 1.5 * halves(usual)).all()
