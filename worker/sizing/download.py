"""The download of a request's photos."""

import asyncio
from functools import partial
from typing import NoReturn

from worker.errors import ImageError
from worker.photos.fetcher import ImageFetcher
from worker.sizing.photo import read
from worker.sizing.views import SidePhoto


async def download(front: str, side: str | None, fetcher: ImageFetcher) -> tuple[bytes, SidePhoto | None]:
    """Bytes of the front photo and a reader of the side photo; raises ImageError if the front photo cannot be had."""
    beside = asyncio.create_task(_fetch_side(side, fetcher))
    try:
        return await fetcher.fetch(front), await beside
    finally:
        beside.cancel()


async def _fetch_side(url: str | None, fetcher: ImageFetcher) -> SidePhoto | None:
    """The photo from the side, read when it is needed; an error of the download is raised then."""
    if url is None:
        return None
    try:
        return partial(read, await fetcher.fetch(url))
    except ImageError as error:
        return partial(_fail, error)


def _fail(error: ImageError) -> NoReturn:
    raise error
