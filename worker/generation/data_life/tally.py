"""The counts of a walk: what went, what stayed and why, and the oldest picture that is left."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from worker.generation.data_life.areas import AREAS


@dataclass
class Sum:
    """Objects and their bytes."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one object."""
        self.objects += 1
        self.bytes += size


@dataclass
class Tally:
    """Grows while the walk goes on."""

    #: By area. In a dry run: what would be deleted.
    deleted: dict[str, Sum] = field(default_factory=lambda: {area: Sum() for area in AREAS})
    #: Old pictures of open sessions, which stay.
    in_use: int = 0
    #: Pictures that are not old yet.
    young: int = 0
    #: Old pictures that Storage did not remove, pictures whose age or place is unclear, and folders that were skipped.
    failures: int = 0
    #: Dates of the oldest deleted picture, and of the oldest picture left.
    oldest_deleted: datetime | None = None
    oldest_left: datetime | None = None

    @property
    def objects(self) -> int:
        """Deleted objects of all areas."""
        return sum(each.objects for each in self.deleted.values())

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return sum(each.bytes for each in self.deleted.values())

    def remove(self, area: str, size: int, created_at: datetime | None) -> None:
        """Count an object that is gone."""
        self.deleted[area].add(size)
        self.oldest_deleted = _older(self.oldest_deleted, created_at)

    def leave(self, created_at: datetime | None) -> None:
        """Note the date of a picture that stays."""
        self.oldest_left = _older(self.oldest_left, created_at)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts for `--json`."""
        return {
            "deleted": {area: {"objects": it.objects, "bytes": it.bytes} for area, it in self.deleted.items()},
            "objects": self.objects,
            "bytes": self.bytes,
            "in_use": self.in_use,
            "young": self.young,
            "failures": self.failures,
            "oldest_deleted": self.oldest_deleted and self.oldest_deleted.isoformat(),
            "oldest_left": self.oldest_left and self.oldest_left.isoformat(),
        }


def _older(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one and other else one or other
