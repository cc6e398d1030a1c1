"""The places of pictures: nothing else in the bucket may ever go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.generation.data_life import areas

SEGMENT = st.sampled_from(["uploads", "generated", "stores", "Uploads", "..", ".", "", "u", "a b", "logo.png"])
NAMES = st.lists(SEGMENT | st.text(max_size=5), min_size=1, max_size=6).map("/".join)


@given(name=NAMES)
def test_a_name_is_a_picture_only_below_one_of_the_four_places(name: str) -> None:
    segments = name.split("/")
    app = segments[0] in ("uploads", "generated") and name.partition("/")[2] != ""
    store = segments[0] == "stores" and segments[1:2] != [""] and segments[2:3] in (["uploads"], ["generated"])
    below = store and name.split("/", 3)[3:] not in ([], [""])
    dots = {".", ".."} & set(segments)
    assert (areas.area_of(name) is not None) == ((app or below) and not dots)


@given(name=NAMES)
def test_the_way_to_every_picture_leads_through_folders_that_are_walked(name: str) -> None:
    if areas.area_of(name):
        folders = [name[: place + 1] for place, character in enumerate(name) if character == "/"]
        assert folders[0] in areas.ROOTS
        assert all(map(areas.leads_to_pictures, folders))


@pytest.mark.parametrize("folder", ["uploads-old/", "stores//", "stores/s/other/", "stores/s/Uploads/", "uploads/../"])
def test_no_other_folder_is_walked(folder: str) -> None:
    assert not areas.leads_to_pictures(folder)
