"""Decides about each message before it is taken from the queue: taken, not now, or as the one probe of a pause.

There are three reasons to take none: an operator's pause lasts until `resume`, an automatic pause (`pauses`) until a
probe has shown that its reason is gone, and a rollout holds its new container back by a file until that has passed.
"""

from dataclasses import dataclass
from pathlib import Path

from worker.generation.pauses.pauses import Pause, Pauses

#: What /health says while the file of a rollout is there.
HELD = "rollout"


@dataclass(frozen=True)
class State:
    """The reason of the pause (empty: messages are taken), and the automatic pause, which a probe may end."""

    reason: str
    pause: Pause | None

    @property
    def may_probe(self) -> bool:
        """Return True if only the automatic pause holds the messages back."""
        return self.pause is not None and self.reason == self.pause.reason


class Intake:
    """Asked before each message is taken."""

    def __init__(self, pauses: Pauses, hold_file: Path | None = None) -> None:
        self.pauses = pauses
        self._hold_file = hold_file

    async def state(self) -> State:
        """Return the first of the reasons: rollout, operator, automatic."""
        if self._hold_file is not None and self._hold_file.exists():
            return State(HELD, None)
        stopped, pause = await self.pauses.now()
        return State(stopped or (pause.reason if pause else ""), None if stopped else pause)
