"""One folder of the bucket on a walk: its entries that stay, and its place in the folder above."""

from collections.abc import Callable

from worker.generation.data_life.bucket import Entry


class Folder:
    """A folder on the way; `stay` counts the entries that are still there for the listing of its next page."""

    def __init__(self, path: str, parent: "Folder | None" = None, stay: int = 0) -> None:
        self.path = path
        self.stay = stay
        self.listed = False
        self.begun = False
        self.last_page: list[Entry] = []
        self.inner: list[Folder] = []
        self._parent = parent
        self._pending = 0

    def enter(self, name: str) -> "Folder":
        """A folder in this one."""
        self._pending += 1
        return Folder(f"{self.path}{name}/", self)

    def wait(self) -> Callable[[bool], None]:
        """Count an entry as undecided; the returned function decides it."""
        self._pending += 1
        return self._settle

    def end(self) -> None:
        """Note that every page was read."""
        self.listed = True
        self._pending += 1
        self._settle(False)

    def _settle(self, stays: bool) -> None:
        self._pending -= 1
        self.stay += stays
        folder = self
        while folder.listed and not folder._pending and folder._parent:
            # A folder is there while an entry of it is.
            folder._parent._pending -= 1
            folder._parent.stay += folder.stay > 0
            folder = folder._parent
