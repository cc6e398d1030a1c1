"""The walk: exactly the old pictures go, whatever lies beside them, and however the pages shift."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.generation.data_life.world import Bench
from worker.generation.data_life import areas, bucket, removal

OWNERS = ("uploads/u", "uploads/v", "generated/u", "stores/s/uploads", "stores/s/generated", "stores/t/generated")
OTHERS = ("uploads-old/u", "stores/s", "stores", "stores/s/logos", "stores/s/uploads.bak", "avatars/uploads", "")
SEGMENTS = st.sampled_from(["a", "b", "a b", "ü", "%", "_", "'", "a%2fb", "$&+,;=@?", "x\ny", ""])
PATHS = st.builds(
    lambda top, inner: "/".join([*([top] if top else []), *inner]),
    st.sampled_from(OWNERS + OTHERS),
    st.lists(SEGMENTS, min_size=1, max_size=4),
).filter(bool)
KINDS = st.sampled_from(["old", "old", "old", "young", "used"])


@given(planted=st.dictionaries(PATHS, KINDS, max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_exactly_the_old_pictures_go(planted: dict[str, str]) -> None:
    async def check() -> None:
        async with Bench.opened() as bench:
            bench.young(*(name for name, kind in planted.items() if kind == "young"))
            bench.old(*(name for name, kind in planted.items() if kind != "young"))
            bench.used.names = {name for name, kind in planted.items() if kind == "used"}
            would = await bench.walk(dry_run=True)
            assert bench.left == planted.keys()
            tally = await bench.walk()
            gone = {name for name, kind in planted.items() if kind == "old" and areas.area_of(name)}
            assert planted.keys() - bench.left == gone
            assert (tally.objects, tally.failures) == (would.objects, 0) == (len(gone), 0)

    with pytest.MonkeyPatch.context() as patch:
        for module in (bucket, removal):
            patch.setattr(module, "PAGE", 5)
        patch.setattr(bucket, "_SURELY_CUT", 5)
        asyncio.run(check())


async def test_a_folder_of_many_pages_is_emptied_but_for_what_stays(bench: Bench) -> None:
    names = [f"uploads/u/{number:03}.jpg" for number in range(100)]
    bench.old(*names)
    bench.young(*names[::3])
    bench.used.names = set(names[1::3])
    tally = await bench.walk()
    assert bench.left == {*names[::3], *names[1::3]}
    assert (tally.objects, tally.young, tally.in_use) == (33, 34, 33)


async def test_users_whose_folders_vanish_do_not_hide_the_next_ones(bench: Bench) -> None:
    bench.old(*(f"uploads/{number:03}/{name}.jpg" for number in range(60) for name in "ab"))
    bench.young(*(f"uploads/{number:03}/c/d.jpg" for number in range(0, 60, 7)))
    await bench.walk()
    assert bench.left == {f"uploads/{number:03}/c/d.jpg" for number in range(0, 60, 7)}


async def test_a_name_of_five_hundred_segments_is_reached(bench: Bench) -> None:
    bench.old("uploads/" + "a/" * 500 + "b.jpg")
    assert (await bench.walk()).objects == 1
    assert bench.left == set()


async def test_two_objects_that_the_listing_cannot_tell_apart_stay(bench: Bench) -> None:
    bench.old("uploads/U/a.jpg", "uploads/u/c.jpg")
    bench.young("uploads/u/a.jpg")
    tally = await bench.walk()
    assert {"uploads/U/a.jpg", "uploads/u/a.jpg"} <= bench.left
    assert tally.failures >= 2


async def test_an_object_without_a_readable_date_stays_and_counts(bench: Bench) -> None:
    bench.old("uploads/u/a.jpg")
    row = bench.storage.buckets["bucket"]["uploads/u/a.jpg"]
    object.__setattr__(row, "row", lambda name: {"name": name, "id": "1", "created_at": "yesterday", "metadata": None})
    tally = await bench.walk()
    assert (tally.failures, bench.left) == (1, {"uploads/u/a.jpg"})
