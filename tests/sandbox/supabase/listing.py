"""The names of a bucket in the order of Storage's listing, which knows no upper and lower case."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import islice

#: The character after the one that separates folders: everything below a folder sorts before it.
_AFTER = chr(ord("/") + 1)


class Names:
    """Sorted once, then kept in order."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted((name.lower(), name) for name in names)

    def add(self, name: str) -> None:
        """Add a name, unless it is there."""
        item = (name.lower(), name)
        place = bisect_left(self._names, item)
        if self._names[place : place + 1] != [item]:
            insort(self._names, item)

    def remove(self, names: Iterable[str]) -> None:
        """Remove names that are there."""
        for name in names:
            del self._names[bisect_left(self._names, (name.lower(), name))]

    def page(self, prefix: str, limit: int, offset: int) -> list[tuple[str, str | None]]:
        """Entries of one folder: the name below `prefix`, and the object's whole name; None for a folder."""
        return list(islice(self._entries(prefix), offset, offset + limit))

    def _entries(self, prefix: str) -> Iterator[tuple[str, str | None]]:
        place = bisect_left(self._names, (prefix.lower(), ""))
        while place < len(self._names) and self._names[place][0].startswith(prefix.lower()):
            lower, name = self._names[place]
            folder, slash, _ = lower[len(prefix) :].partition("/")
            yield name[len(prefix) : len(prefix) + len(folder)], None if slash else name
            # Folders whose names differ in case alone are one.
            place = bisect_left(self._names, (prefix.lower() + folder + _AFTER, "")) if slash else place + 1
