"""The supervisor's handle of the Celery process: starts it, hears its heartbeats, tells it to stop or to let go."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from worker import logs
from worker.health import Health

log = logs.get_logger(__name__)

INSTANCE_VARIABLE = "WEARON_INSTANCE"
LINK_VARIABLE = "WEARON_LINK_FD"
#: glibc would give every picture's memory back to the kernel and take it again for the next one: 17 ms of page faults
#: per generation. What the environment says goes first.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
#: It answers in milliseconds unless it stands still.
_METRICS_SECONDS = 1.0
#: The longest that the process says; all its metrics are some 50 kB.
_LINE_BYTES = 1 << 20
_END_SECONDS = 0.02


@dataclass(frozen=True)
class Child:
    """The Celery process, and our end of the socket to it."""

    #: Unique per start: a crashed predecessor's claims must look dead.
    instance: str
    process: subprocess.Popen[bytes]
    link: socket.socket


def start() -> Child:
    """Start the process; until a `Pool` speaks with it, it loads its modules while we load ours."""
    instance = f"{socket.gethostname()}-{uuid4().hex[:8]}"
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.generation.tasks"],
            env={**_ALLOCATOR, **os.environ, INSTANCE_VARIABLE: instance, LINK_VARIABLE: str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
            # What it writes before its own logging is set up goes where our foreign output goes.
            stdout=logs.stdout,
        )
    return Child(instance, process, ours)


class Pool:
    """The supervisor's side of the process; `slot_freed` is called whenever one of its generations has ended."""

    def __init__(self, child: Child, health: Health, slot_freed: Callable[[], None]) -> None:
        self._process = child.process
        self._link = child.link
        self._health = health
        self._slot_freed = slot_freed
        self._up = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._told: list[Any] = []
        self._has_told = asyncio.Event()

    async def connect(self) -> None:
        """Take up the link; `watch` must run to hear the process."""
        self._reader, self._writer = await asyncio.open_connection(sock=self._link, limit=_LINE_BYTES)

    async def wait_until_up(self) -> None:
        """Returns once the process can run generations."""
        await self._up.wait()

    async def watch(self) -> str:
        """Hear the process until it ends; -> how it ended."""
        while line := await self._reader.readline():
            event = json.loads(line)
            if event["event"] == "end":
                self._slot_freed()
            elif event["event"] == "up":
                self._up.set()
            elif event["event"] == "metrics":
                self._told = event["families"]
                self._has_told.set()
            else:
                self._health.beat("celery", active=event["active"], loop_silent_seconds=event["celery_silent"])
        # It has closed its end and is about to be gone.
        while (code := self._process.poll()) is None:  # noqa: ASYNC110  # the kernel's event, not ours
            await asyncio.sleep(_END_SECONDS)
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    @property
    def pid(self) -> int:
        return self._process.pid

    async def metrics(self) -> list[Any]:
        """The values of its metrics; those of the last time when it stands still.

        So its counters never go back while it lives, and the container ends when it does not.
        """
        if self._writer and not self._writer.is_closing():
            self._has_told.clear()
            self._writer.write(b"metrics\n")
            with suppress(TimeoutError):
                async with asyncio.timeout(_METRICS_SECONDS):
                    await self._has_told.wait()
        return self._told

    def stop(self) -> None:
        """Take nothing more, finish what runs, then end."""
        self._signal(signal.SIGTERM)

    def let_go(self) -> None:
        """Give back or fail what runs."""
        assert self._writer  # noqa: S101  # it runs
        self._writer.write(b"release\n")

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)  # nothing happens once it has ended
