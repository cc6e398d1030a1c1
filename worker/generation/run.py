"""State of one running generation."""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from worker.errors import AccountRefused, ServiceUnavailable
from worker.generation import metrics
from worker.generation.byte_budget import Held
from worker.generation.message import GenerationMessage
from worker.generation.outcome import Facts
from worker.generation.pauses.breaker import Attempt
from worker.generation.sessions.leases import Lease
from worker.generation.sessions.marks import Stage
from worker.prompts import catalogue


class SessionTaken(Exception):  # no failure: there is nothing left to do
    """Another worker has ended the session, or works on it."""


@dataclass
class Run:
    """State of one generation, shared by its steps."""

    message: GenerationMessage
    lease: Lease
    #: The reason of the pause that this generation probes; empty: it is no probe.
    probe: str = ""
    began_at: float = field(default_factory=time.monotonic)
    #: The session is "processing" because of this worker.
    started: bool = False
    #: ... or may be: the answer to the start was lost.
    perhaps_started: bool = False
    #: Of the budget of all generations.
    memory: Held | None = None
    #: Unless nothing has been paid, the session is not requeued any more.
    stage: Stage = Stage.STARTED
    #: Why the storage does not take the paid picture.
    refused: AccountRefused | ServiceUnavailable | None = None
    #: Seconds in each step, all its calls together.
    steps: dict[str, float] = field(default_factory=dict)
    #: The session is as the vanished worker before left it, and its mark still tells how.
    keep_mark: bool = False
    #: The session was looked at once more just before the first request that may be paid.
    checked: bool = False
    #: Bulk whose slot is needed.
    preempted: bool = False
    #: For the session's event.
    facts: Facts = field(init=False)
    attempt: Attempt = field(init=False)

    def __post_init__(self) -> None:
        self.attempt = Attempt(self.message.session_id, probe=bool(self.probe))
        self.facts = {
            "request_id": self.message.request_id,
            "prompt_version": catalogue.name(self.message.prompt),
            **self.message.consent,
            **({"priority": "bulk"} if self.message.is_bulk else {}),
        }

    @property
    def elapsed_ms(self) -> int:
        """Milliseconds since this worker took the session's lease."""
        return round((time.monotonic() - self.began_at) * 1000)

    def hold_picture(self, number: int, count: int) -> None:
        """Count the bytes of one of the customer's pictures instead of what was reserved for it."""
        if self.memory:
            self.memory.change(number, count)

    def hold(self, count: int) -> None:
        """Count the bytes of the finished picture instead of the customer's pictures."""
        if self.memory:
            self.memory.replace(count)

    def step(self, name: str) -> AbstractContextManager[None]:
        """Time one step for the log and the metric."""
        return metrics.step(name, self.steps)
