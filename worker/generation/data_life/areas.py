"""The places of pictures in the bucket. No name outside of them is ever deleted."""

import re
from uuid import UUID

from worker.generation.channel import Channel

#: Folders whose listing leads to every picture.
ROOTS = ("uploads/", "generated/", "stores/")
AREAS = ("uploads", "generated", "stores/*/uploads", "stores/*/generated")
_PICTURE = re.compile(r"(?P<store>stores/[^/]+/)?(?P<kind>uploads|generated)/.+", re.DOTALL)
_FOLDER = re.compile(r"(uploads|generated)/(.*/)?|stores/([^/]+/((uploads|generated)/(.*/)?)?)?", re.DOTALL)


def area_of(name: str) -> str | None:
    """The area of a picture, one of AREAS; None for every other name."""
    found = _PICTURE.fullmatch(name)
    if not found or _leads_elsewhere(name):
        return None
    return f"stores/*/{found['kind']}" if found["store"] else found["kind"]


def leads_to_pictures(folder: str) -> bool:
    """Tell if pictures may lie below a folder, whose name ends with a slash."""
    return bool(_FOLDER.fullmatch(folder)) and not _leads_elsewhere(folder)


def folders_of(channel: Channel, owner_id: UUID) -> list[str]:
    """The folders of one user or store."""
    pictures = f"stores/{owner_id}/generated/" if channel is Channel.B2B else f"generated/{owner_id}/"
    return [channel.upload_folder(owner_id), pictures]


def _leads_elsewhere(name: str) -> bool:
    """A file system behind Storage could read these segments as a way out of the folder."""
    return not {".", ".."}.isdisjoint(name.split("/"))
