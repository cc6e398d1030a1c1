"""A bucket with traps: the time and the memory of its purge, which is killed twice in the middle."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote
from uuid import UUID

from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.bench.progress import Progress
from tests.sandbox import Sandbox
from tests.sandbox.sandbox import BUCKET, ROOT

_HOUR = 3600.0
_BYTES = 1000
_ODD = ("a b.jpg", "100%.jpg", "a%20b.jpg", "it's (1).jpg", "ü.jpg", "a+b&c=d.jpg", "$@;:,.jpg", "_.jpg", "a//b.jpg")
#: Nothing below these may go, however old.
_OUTSIDE = ("avatars", "uploads-old", "xuploads", "stores", "stores/s", "stores/s/logos", "stores/s/uploads.old")


@dataclass
class Planted:
    """Names that have to go, and names that have to stay."""

    go: set[str] = field(default_factory=set)
    stay: set[str] = field(default_factory=set)

    @property
    def bytes(self) -> int:
        """Bytes of the objects that have to go."""
        return len(self.go) * _BYTES


def plant(sandbox: Sandbox, objects: int) -> Planted:
    """Fill the bucket: users and stores, odd names, deep folders, young files, open sessions, and other folders."""
    planted, chance = Planted(), random.Random(objects)
    for number in range(objects * 9 // 10):
        owner = UUID(int=number % max(1, objects // 100))
        kind = chance.choice(("uploads", "generated"))
        place = f"{kind}/{owner}" if number % 3 else f"stores/{UUID(int=number % 40)}/{kind}"
        (planted.stay if number % 9 == 0 else planted.go).add(f"{place}/{number:06}.jpg")
    young = set(planted.stay)
    planted.go |= {f"uploads/u/{name}" for name in _ODD}
    planted.go |= {f"uploads/deep/{'/'.join('abcdefghijkl'[:depth])}/x.jpg" for depth in range(1, 13)}
    planted.stay |= {f"{outside}/{name}" for outside in _OUTSIDE for name in _ODD} | {"uploads.jpg"}
    planted.stay |= {f"{outside}/{number:06}.jpg" for outside in _OUTSIDE for number in range(objects // 100)}
    used = _used(sandbox)
    planted.stay |= used
    old = sorted((planted.go | planted.stay) - young)
    sandbox.gateway.plant(BUCKET, [(name, chance.uniform(6.5, 60) * _HOUR, _BYTES) for name in old])
    sandbox.gateway.plant(BUCKET, [(name, chance.uniform(0, 5.5) * _HOUR, _BYTES) for name in sorted(young)])
    return planted


def _used(sandbox: Sandbox) -> set[str]:
    """Pictures of open sessions of both channels and all statuses."""
    used = set()
    for number, status in enumerate(("queued", "pending", "processing", "queued", "processing")):
        channel = "b2c" if number < 3 else "b2b"
        names = [f"uploads/u/open-{number}-{name}" for name in _ODD[:3]]
        signed = [f"https://x.supabase.co/storage/v1/object/sign/{BUCKET}/{quote(name)}?token=t" for name in names]
        session = getattr(sandbox.producer, channel)(images=signed, push=False)
        table = "generation_sessions" if channel == "b2c" else "store_generation_sessions"
        sandbox.database.execute(f"update {table} set status = $2 where id = $1", session.session_id, status)
        used |= set(names if channel == "b2c" else names[:2])
    return used


def run(options: Options, progress: Progress) -> list[Figure]:
    """Exactly the right objects have to go."""
    with Sandbox(compose=False) as sandbox:
        progress("filling the bucket")
        planted = plant(sandbox, options.objects)
        progress(f"{len(planted.go)} of {len(planted.go) + len(planted.stay)} objects go")
        seconds, peak = 0.0, 0.0
        for share in (0.7, 0.3, 0.0):
            left = len(planted.stay) + share * len(planted.go)
            took, memory = _purge(sandbox, options.purge_rate, left if share else -1)
            seconds, peak = seconds + took, max(peak, memory)
        found, calls = sandbox.gateway.paths(BUCKET), sandbox.gateway.requests()
    return [
        Figure("objects", len(planted.go) + len(planted.stay)),
        Figure("deleted", len(planted.go - found)),
        Figure("wrongly deleted", len(planted.stay - found), target=0),
        Figure("wrongly left", len(planted.go & found), target=0),
        Figure("seconds of three purges", seconds, "s"),
        Figure("listings and removals", calls["storage/list"] + calls["storage/remove"]),
        Figure("RSS peak", peak, "MB", 150),
    ]


def _purge(sandbox: Sandbox, rate: float, kill_at: float) -> tuple[float, float]:
    """Run the command, and kill it once so many objects are left. Return seconds and megabytes."""
    environment = sandbox.env(PATH=os.environ["PATH"], DATA_LIFE_REQUESTS_PER_SECOND=str(rate))
    begun, peak = time.monotonic(), 0.0
    command = [sys.executable, "-m", "worker", "purge"]
    purge = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
    while purge.poll() is None:
        peak = max(peak, _resident_peak(purge.pid))
        if kill_at >= 0 and len(sandbox.gateway.paths(BUCKET)) <= kill_at:
            purge.send_signal(signal.SIGKILL)
        time.sleep(0.5)
    return time.monotonic() - begun, peak


def _resident_peak(pid: int) -> float:
    """The highest so far, in megabytes; 0 for a process that has ended."""
    with suppress(OSError), open(f"/proc/{pid}/status") as status:
        return next((int(line.split()[1]) / 1000 for line in status if line.startswith("VmHWM")), 0.0)
    return 0.0
