"""The walk over the folders of the bucket, one page at a time.

Storage lists one folder, by offset. Removals move all later entries up, so the offset is the number of entries that
stay, and the batch is emptied before a folder's next page is asked for.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from worker.generation.data_life import areas
from worker.generation.data_life.bucket import Bucket, Entry, NameRefused
from worker.generation.data_life.folder import Folder
from worker.generation.data_life.removal import Old, Removal
from worker.generation.data_life.tally import Tally
from worker.logs import get_logger

log = get_logger(__name__)

#: Folders of a root that are walked at once.
_AT_ONCE = 8


@dataclass(eq=False, repr=False)
class Walk:
    """Walks folders, and hands pictures that were made before a moment, or all, to the removal."""

    bucket: Bucket
    removal: Removal
    tally: Tally
    before: datetime | None
    on_page: Callable[[], None] = lambda: None

    async def root(self, path: str, offset: int, save: Callable[[int], Awaitable[None]]) -> None:
        """Walk a root from an entry on, its folders side by side; `save` gets the place where a new walk may go on."""
        root = Folder(path, stay=offset)
        while not root.listed:
            await self._page(root)
            folders, root.inner = root.inner, []
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(_AT_ONCE, len(folders))):
                        group.create_task(self._each(folders))
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from errors
            await self.removal.flush()
            await save(root.stay)

    async def folder(self, path: str) -> None:
        """Walk one folder and empty the batch."""
        await self._down(Folder(path))
        await self.removal.flush()

    async def _each(self, folders: list[Folder]) -> None:
        while folders:
            await self._down(folders.pop())

    async def _down(self, top: Folder) -> None:
        """Walk depth first, without recursion: a name may have hundreds of segments."""
        way = [top]
        while way:
            folder = way[-1]
            if folder.inner:
                way.append(folder.inner.pop())
            elif folder.listed:
                way.pop()
            else:
                await self._page(folder)

    async def _page(self, folder: Folder) -> None:
        if folder.begun:
            await self.removal.flush()
        entries, last = await self._list(folder)
        self.on_page()
        folder.begun = True
        folder.last_page = [] if last else entries
        names = Counter(entry.name for entry in entries if not entry.is_folder)
        for entry in entries:
            await self._entry(folder, entry, names[entry.name] > 1)
        if last:
            folder.end()

    async def _list(self, folder: Folder) -> tuple[list[Entry], bool]:
        """Return the next page. Skip a folder whose page is refused, or comes again with nothing removed."""
        try:
            entries, last = await self.bucket.page(folder.path, folder.stay)
        except NameRefused as error:
            log.warning("folder_not_listed", error=str(error))
        else:
            if not entries or entries != folder.last_page:
                return entries, last
            log.warning("listing_repeated", entries=len(entries))
        self.tally.failures += 1
        return [], True

    async def _entry(self, folder: Folder, entry: Entry, twice: bool) -> None:
        path = folder.path + entry.name
        if entry.is_folder:
            if areas.leads_to_pictures(f"{path}/"):
                folder.inner.append(folder.enter(entry.name))
            else:
                folder.stay += 1
            return
        created_at = entry.created_at
        before, place = self.before, areas.area_of(path)
        # Twice: the listing ignores case, so one of the two lies in another folder.
        unclear = twice or (before is not None and created_at is None)
        old = before is None or (created_at is not None and created_at < before)
        if place and old and not unclear:
            await self.removal.add(Old(path, entry.size, created_at, folder.wait()))
            return
        folder.stay += 1
        if place:
            self.tally.failures += unclear
            self.tally.young += not unclear
            self.tally.leave(created_at)
