"""The socket between the supervisor and the Celery process: typed events as JSON lines, both ways."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Self, get_args

from worker.generation import odd

#: The longest event: all metrics of the process are some 50 kB.
_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Up:
    """The Celery process takes messages now."""


@dataclass(frozen=True)
class Beat:
    """The Celery process is alive and runs this many generations; Celery's own loop was last seen so long ago."""

    active: int
    celery_silent_seconds: float


@dataclass(frozen=True)
class Ended:
    """A generation has ended: its slot is free."""


@dataclass(frozen=True)
class CallbacksQueued:
    """A settled session's event waits for the deliverer of callbacks."""


@dataclass(frozen=True)
class Metrics:
    """The values of all metrics of the Celery process."""

    families: list[Any]


@dataclass(frozen=True)
class AskMetrics:
    """Order: answer with Metrics."""


@dataclass(frozen=True)
class Release:
    """Order: requeue or fail everything that runs."""


@dataclass(frozen=True)
class Preempt:
    """Order: requeue so many generations of bulk that have paid for nothing."""

    count: int


Event = Up | Beat | Ended | CallbacksQueued | Metrics | AskMetrics | Release | Preempt
_KINDS = {kind.__name__: kind for kind in get_args(Event)}


class Link:
    """One end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        """Take up this end on the running event loop."""
        return cls(*await asyncio.open_connection(sock=end, limit=_LINE_BYTES))

    def send(self, event: Event) -> bool:
        """Send an event to the other process. Return False if that process has closed its socket."""
        if self._writer.is_closing():
            return False
        self._writer.write(encode(event))
        return True

    async def events(self) -> AsyncIterator[Event]:
        """Events of the other process, until that process closes the socket."""
        while True:
            try:
                line = await self._reader.readline()
                if not line:
                    return
                event = decode(line)
            except (ValueError, TypeError, KeyError) as error:
                odd.note("part", "link", type(error).__name__)
                continue
            yield event


def encode(event: Event) -> bytes:
    """Encode an event as one line."""
    return json.dumps([type(event).__name__, asdict(event)]).encode() + b"\n"


def decode(line: bytes) -> Event:
    """Decode the event of a line."""
    name, fields = json.loads(line)
    event: Event = _KINDS[name](**fields)
    return event
