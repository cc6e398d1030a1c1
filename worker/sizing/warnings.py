"""Codes for what makes the estimate from an accepted picture less certain."""

from worker.sizing.measurements import Measurements
from worker.sizing.silhouette import Silhouette


def picture_warnings(silhouette: Silhouette, measured: Measurements) -> list[str]:
    """What makes an accepted picture's estimate less certain."""
    found = {
        "arms_touch_torso": float(silhouette.hidden.mean()) > 0.35,
        "loose_clothing": measured.looseness > 1,
        "unusual_outline": measured.strangeness > 1,
    }
    return [code for code, holds in found.items() if holds]
