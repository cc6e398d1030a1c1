"""Every reason of the quality gate on pictures made to deserve it."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from tests.bench.spoiled import (
    Good,
    beside,
    blurred,
    cut_above,
    cut_below,
    darkened,
    empty,
    shortened_thighs,
    shrunk,
    squeezed,
    thumbnail,
)
from tests.worker.sizing.conftest import picture, truth
from worker.sizing.answers import Reason
from worker.sizing.photo import Photo, reduce
from worker.sizing.pose import Detector, Landmarker, Pose
from worker.sizing.posture import extent
from worker.sizing.quality import View, check
from worker.sizing.refusals import PhotoRefused
from worker.sizing.silhouette import ANKLES, ELBOWS, HIPS, SHOULDERS, WRISTS, middle


@pytest.fixture(scope="module")
def good(landmarker: Landmarker) -> Good:
    image = picture("b002.jpg")
    return Good(image, landmarker.detect(np.asarray(image))[0], picture("b031.jpg"))


def reason(image: Image.Image, landmarker: Landmarker) -> str:
    return verdict(reduce(image), landmarker)


def verdict(photo: Photo, detector: Detector, view: View = "front") -> str:
    try:
        check(photo, detector, view)
    except PhotoRefused as refusal:
        return refusal.reason
    return "accepted"


@pytest.mark.parametrize("name", truth())
def test_good_picture_is_accepted(name: str, landmarker: Landmarker) -> None:
    assert reason(picture(name), landmarker) == "accepted"


@pytest.mark.parametrize(
    ("expected", "spoil", "strength"),
    [
        ("no_person", empty, 0),
        ("no_person", empty, 1),
        ("no_person", empty, 2),
        ("no_person", empty, 3),
        ("several_people", beside, 1),
        ("several_people", beside, 0.75),
        ("not_full_body", cut_below, 0.5),
        ("not_full_body", cut_below, 0.8),
        ("not_full_body", cut_below, 0.97),
        ("not_full_body", cut_above, 0.03),
        ("not_full_body", cut_above, 0.1),
        ("side_view", squeezed, 0.5),
        ("seated_or_bent", shortened_thighs, 0.35),
        ("too_small", thumbnail, 0.2),
        ("too_small", shrunk, 0.25),
        ("too_dark_or_blurred", darkened, 0.05),
        ("too_dark_or_blurred", blurred, 10),
    ],
)
def test_spoiled_picture_is_refused_for_its_reason(
    expected: str, spoil: object, strength: float, good: Good, landmarker: Landmarker
) -> None:
    assert callable(spoil)
    assert reason(spoil(good, strength), landmarker) == expected


def test_black_frame_is_refused(landmarker: Landmarker) -> None:
    assert reason(Image.new("RGB", (768, 1024)), landmarker) == "too_dark_or_blurred"


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (63, 64), (65, 67), (1024, 66), (767, 1023), (2, 2)])
def test_any_shape_of_picture_is_judged(size: tuple[int, int], landmarker: Landmarker) -> None:
    assert reason(picture("b000.jpg").resize(size), landmarker) != ""


#: By joint, in body heights to the right and down.
Offsets = dict[int, tuple[float, float]]


class Moved:
    """A landmarker that sees a real person with some joints elsewhere."""

    def __init__(self, pose: Pose, offsets: Offsets) -> None:
        landmarks = pose.landmarks.copy()
        for joint, offset in offsets.items():
            landmarks[joint, :2] += np.array(offset) * extent(pose)
        self._pose = Pose(landmarks, pose.world, pose.mask)

    def detect(self, _: object) -> list[Pose]:
        return [self._pose]


def folded(pose: Pose) -> Offsets:
    """The offsets that bring elbows and wrists in front of the trunk."""
    chest = pose.landmarks[list(SHOULDERS), :2].mean(axis=0)
    goals = [
        (joint, chest + np.array([side * 15, down]))
        for joints, down in ((ELBOWS, 90), (WRISTS, 60))
        for joint, side in zip(joints, (1, -1), strict=True)
    ]
    moves = {joint: (goal - pose.landmarks[joint, :2]) / extent(pose) for joint, goal in goals}
    return {joint: (float(move[0]), float(move[1])) for joint, move in moves.items()}


@pytest.mark.parametrize(
    ("expected", "offsets"),
    [
        ("arms_cover_torso", folded),
        ("arms_cover_torso", lambda _: {WRISTS[0]: (0.0, -0.3)}),
        ("seated_or_bent", lambda _: {ANKLES[0]: (0.0, -0.06)}),
        ("seated_or_bent", lambda _: {ANKLES[0]: (0.09, 0.0), ANKLES[1]: (-0.09, 0.0)}),
        ("accepted", lambda _: {ANKLES[0]: (0.02, -0.02), WRISTS[0]: (0.02, -0.02)}),
    ],
    ids=["folded arms", "raised hand", "a step or jump", "a stride", "a person who does not stand quite still"],
)
def test_pose_is_judged_by_its_joints(expected: str, offsets: Callable[[Pose], Offsets], good: Good) -> None:
    assert verdict(Photo(good.picture, 1), Moved(good.pose, offsets(good.pose))) == expected


def test_side_view_shows_the_foot_that_is_nearer_to_the_camera_lower(good: Good) -> None:
    sideways = replace(good.pose, world=good.pose.world[:, [2, 1, 0]])

    nearer, strides = ({ANKLES[0]: offset} for offset in ((0.0, -0.06), (0.2, 0.0)))

    assert verdict(Photo(good.picture, 1), Moved(sideways, nearer), "side") == "accepted"
    assert verdict(Photo(good.picture, 1), Moved(sideways, strides), "side") == "seated_or_bent"


@pytest.mark.parametrize("code", get_args(Reason))
def test_every_reason_has_a_sentence_and_a_hint(code: Reason) -> None:
    refusal = PhotoRefused(code)

    assert str(refusal).endswith(".")
    assert refusal.hint.endswith(".")


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_picture_without_its_turn_is_measured_with_the_head_up(quarters: int, landmarker: Landmarker) -> None:
    image = picture("b002.jpg")
    usual = check(reduce(image), landmarker)

    found = check(reduce(image.rotate(90 * quarters, expand=True)), landmarker)

    assert (found.quarter_turns, found.pose.mask.shape) == (4 - quarters, usual.pose.mask.shape)
    assert found.height == pytest.approx(usual.height, rel=0.02)


@pytest.mark.parametrize(("below_soles", "expected"), [(0.0, "accepted"), (-0.06, "not_full_body")])
def test_whole_shoes_may_touch_the_border(below_soles: float, expected: str, landmarker: Landmarker) -> None:
    image = reduce(picture("b002.jpg")).picture
    outline = check(reduce(image), landmarker)

    cut = image.crop((0, 0, image.width, round(outline.bottom + below_soles * outline.height)))

    assert reason(cut, landmarker) == expected


def test_object_wider_than_any_trunk_is_refused(good: Good) -> None:
    pose = good.pose
    rows = slice(*(round(float(middle(pose, pair)[1])) for pair in (SHOULDERS, HIPS)))
    centre, half = round(float(middle(pose, HIPS)[0])), round(0.25 * extent(pose))
    mask = pose.mask.copy()
    mask[rows, centre - half : centre + half] = 1

    class Board:
        def detect(self, _: object) -> list[Pose]:
            return [replace(pose, mask=mask)]

    with pytest.raises(PhotoRefused) as refused:
        check(Photo(good.picture, 1), Board())
    assert refused.value.reason == "arms_cover_torso"
