"""Checks of this machine: names, disk, clock, and the pose model that came with the package."""

import asyncio
import shutil
import socket
import tempfile
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from worker import clients
from worker.doctor.result import Result, fail, ok, warn
from worker.settings import Settings

CLOCK_WARN_SECONDS = 5.0
CLOCK_FAIL_SECONDS = 60.0
DISK_WARN_BYTES = 1024**3
DISK_FAIL_BYTES = 100 * 1024**2


async def dns(settings: Settings) -> list[Result]:
    """Check that the hosts of Redis, Supabase and OpenAI have an address; the limiter's has a check of its own."""
    urls = [
        ("REDIS_URL", settings.redis_url),
        ("SUPABASE_URL", settings.supabase_url),
        ("OPENAI_BASE_URL", settings.openai_base_url),
    ]
    hosts: dict[str, list[str]] = {}
    for setting, url in urls:
        hosts.setdefault(urlsplit(url).hostname or "", []).append(setting)
    return list(await asyncio.gather(*(_resolve(host, " and ".join(names)) for host, names in hosts.items())))


async def _resolve(host: str, setting: str) -> Result:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return fail("dns", f"{host} has no address: {error.strerror or error}", f"check {setting} and the resolver")
    return ok("dns", f"{host} is {', '.join(sorted({str(entry[4][0]) for entry in found})[:3])}")


async def clock(settings: Settings) -> list[Result]:
    """Check this machine's clock against the Date header of Supabase and OpenAI."""
    async with clients.http_client(httpx.Timeout(5.0), connections=2) as http:
        urls = (f"{settings.supabase_url}/rest/v1/", f"{settings.openai_base_url}/models")
        offsets = [
            offset for offset in await asyncio.gather(*(_offset(http, url) for url in urls)) if offset is not None
        ]
    if not offsets:
        return [warn("clock", "no server told the time", "see the other lines")]
    # A server may be wrong itself: the server nearest to us counts.
    off = min(offsets, key=abs)
    what = f"{abs(off):.0f} s {'behind' if off > 0 else 'ahead'}" if abs(off) > 1 else "within a second"
    remedy = "switch on time synchronisation (systemd-timesyncd or chrony)"
    if abs(off) > CLOCK_FAIL_SECONDS:
        return [fail("clock", what, remedy)]
    return [warn("clock", what, remedy) if abs(off) > CLOCK_WARN_SECONDS else ok("clock", what)]


async def _offset(http: httpx.AsyncClient, url: str) -> float | None:
    """Seconds that the server is ahead of us."""
    before = time.time()
    try:
        date = parsedate_to_datetime((await http.head(url)).headers["date"]).timestamp()
    except (httpx.HTTPError, KeyError, ValueError):
        return None
    # The header has whole seconds, cut off.
    return date + 0.5 - (before + time.time()) / 2


async def disk(_: Settings) -> list[Result]:
    """Check the room for temporary files."""
    try:
        folder = tempfile.gettempdir()
    except OSError as error:  # a full disk, too
        return [fail("disk", f"no temporary file can be written: {error.strerror}", "make room, or set TMPDIR")]
    free = shutil.disk_usage(folder).free
    what, remedy = f"{free / 1024**3:.1f} GiB free in {folder}", "make room on that disk"
    if free < DISK_FAIL_BYTES:
        return [fail("disk", what, remedy)]
    return [warn("disk", what, remedy) if free < DISK_WARN_BYTES else ok("disk", what)]


async def pose_model(_: Settings) -> list[Result]:
    """Check that the file of the pose model has the expected checksum."""
    from worker.sizing import pose  # noqa: PLC0415  # numpy and Pillow take a moment

    try:
        await asyncio.to_thread(pose.verify_model)
    except pose.ModelUnusable as error:
        return [fail("pose model", str(error), "install the package or image again")]
    return [ok("pose model", f"{pose.MODEL_PATH.name} has the right SHA-256")]
