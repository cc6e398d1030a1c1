"""The record of all calls to the image API."""

import dataclasses
from collections import deque
from dataclasses import dataclass
from time import time
from typing import Any


@dataclass
class Part:
    """One image as it was received."""

    field: str
    filename: str
    content_type: str
    size: int
    data: bytes | None = dataclasses.field(default=None, repr=False)


@dataclass
class Call:
    """One call; `outcome` is `ok`, the kind of the fault, or why it was refused, and `status` what was answered."""

    number: int
    started: float
    model: str
    prompt: str
    parameters: dict[str, str]
    headers: dict[str, str]
    images: list[Part]
    finished: float | None = None
    status: int | None = None
    outcome: str = "running"

    def as_json(self) -> dict[str, Any]:
        """The call without the bytes."""
        return dataclasses.asdict(
            self, dict_factory=lambda pairs: {key: value for key, value in pairs if key != "data"}
        )


#: Calls that are kept in full.
_KEPT = 5000


class Calls:
    """Counts all calls; keeps the latest ones in full and the images of `keep_images` of them."""

    keep_images: int

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.latest: deque[Call] = deque(maxlen=_KEPT)
        self._starts: list[float] = []
        self.total = self.in_flight = self.peak_in_flight = 0

    def begin(
        self, model: str, prompt: str, parameters: dict[str, str], headers: dict[str, str], images: list[Part]
    ) -> Call:
        """Record a call that has come in."""
        self.total += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        call = Call(self.total, time(), model, prompt, parameters, headers, images)
        self._starts.append(call.started)
        self.latest.append(call)
        if len(self.latest) > self.keep_images:
            for part in self.latest[-self.keep_images - 1].images:
                part.data = None
        return call

    def end(self, call: Call, status: int | None, outcome: str) -> None:
        """Record the answer of a call; without a status the call was cut off."""
        call.finished, call.status, call.outcome = time(), status, outcome
        self.in_flight -= 1

    def within(self, seconds: float) -> int:
        """Calls that started in the last `seconds`."""
        return sum(start > time() - seconds for start in self._starts)

    def summary(self) -> dict[str, Any]:
        """Counts, and the most calls that started within any 60 s."""
        most = begin = 0
        for end, start in enumerate(self._starts):
            while start - self._starts[begin] >= 60:
                begin += 1
            most = max(most, end - begin + 1)
        counts = {"total": self.total, "in_flight": self.in_flight, "peak_in_flight": self.peak_in_flight}
        return {**counts, "max_per_minute": most}

    def find(self, number: int) -> Call | None:
        """The call of that number."""
        return next((call for call in self.latest if call.number == number), None)
