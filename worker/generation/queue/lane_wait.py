"""Estimates of waits in the lanes, from the generations that ended in the last ten minutes."""

from worker.generation.queue.lane_view import Lane
from worker.generation.queue.lanes import Rules


def estimated_waits(lanes: list[Lane], rules: Rules) -> dict[str, float]:
    """Seconds until the last message of each waiting lane starts; empty if no generation has ended lately."""
    rate = sum(lane.rate for lane in lanes)
    if not rate:
        return {}
    waits: dict[str, float] = {}
    ahead = 0  # bulk waits for all others
    for kind in (False, True):
        waiting = [lane for lane in lanes if lane.waiting and lane.is_bulk is kind]
        weights = sum(rules.weight(lane.name) for lane in waiting)
        # A lane that needs fewer rounds is empty before, and leaves its turns to the others.
        for lane in sorted(waiting, key=lambda lane: lane.waiting / rules.weight(lane.name)):
            weight = rules.weight(lane.name)
            waits[lane.name] = (ahead + lane.waiting / weight * weights) / rate
            weights -= weight
            ahead += lane.waiting
    return waits
