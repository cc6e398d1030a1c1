"""The conditions of a run."""

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True)
class Options:
    """The load of the documented figures; `quickly` is the load of a test."""

    quick: bool = False
    per_minute: float = 300
    minutes: float = 3
    latency: float = 30
    #: Sigma of a log-normal latency with `latency` as its median; 0: always the same.
    sigma: float = 0
    concurrency: int = 150
    megapixels: float = 12
    burst: int = 1000
    waiting: int = 100_000
    objects: int = 200_000
    purge_rate: float = 50
    #: Write a py-spy profile (speedscope) of the Celery process beside the figures.
    profile: str = ""

    def quickly(self) -> Self:
        """The same in a few seconds."""
        return replace(
            self,
            quick=True,
            per_minute=120,
            minutes=0.1,
            latency=0.5,
            concurrency=20,
            megapixels=2,
            burst=30,
            waiting=min(self.waiting, 2000),
            objects=min(self.objects, 500),
            purge_rate=1000,
        )
