"""The estimated wait in a lane, of `wearon-worker queue` and the metrics."""

import pytest

from worker.generation.queue.lane_view import Lane, estimated_waits
from worker.generation.queue.lanes import Rules

STORES = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(20)]


def lane(name: str, waiting: int, rate: float = 0) -> Lane:
    return Lane(name, waiting, 0, "", rate)


def test_a_long_lane_waits_for_what_short_ones_have_and_no_longer() -> None:
    """One generation ends per second."""
    lanes = [lane("b2c", 300, 1.0), lane(STORES[0], 5000), *(lane(store, 1) for store in STORES[1:])]
    waits = estimated_waits(lanes, Rules(weights={"b2c": 5}))
    assert waits[STORES[0]] == 5000 + 300 + 19
    assert waits[STORES[1]] == 20 + 5
    assert waits["b2c"] == pytest.approx(300 + 60 + 19)


def test_bulk_waits_for_all_others() -> None:
    waits = estimated_waits([lane(f"bulk-{STORES[0]}", 10, 1.0), lane("b2c", 100)], Rules())
    assert (waits["b2c"], waits[f"bulk-{STORES[0]}"]) == (100, 110)
