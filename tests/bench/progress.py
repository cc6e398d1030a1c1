"""Progress on stderr: a live line in a terminal, now and then a line elsewhere."""

import time
from typing import Self

from rich.console import Console
from rich.status import Status

_PLAIN_EVERY_SECONDS = 15.0


class Progress:
    """A context manager around one part."""

    def __init__(self, part: str, *, console: Console | None = None) -> None:
        self._part = part
        self._console = console or Console(stderr=True)
        self._status = Status(part, console=self._console) if self._console.is_terminal else None
        self._shown_at = float("-inf")
        self._begun = time.monotonic()

    def __call__(self, text: str) -> None:
        """Show the current step."""
        line = f"{self._part} {time.monotonic() - self._begun:5.0f} s  {text}"
        if self._status:
            self._status.update(line)
        elif time.monotonic() - self._shown_at >= _PLAIN_EVERY_SECONDS:
            self._shown_at = time.monotonic()
            self._console.print(line, highlight=False)

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()
