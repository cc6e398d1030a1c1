"""The experiment: versions with weights share the sessions that bring no prompt of their own.

A session's version follows from its id alone, so that every retry, restart and instance chooses the same one.
"""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

from worker.prompts import catalogue


@dataclass(frozen=True)
class Choice:
    """The text that is sent for a session, and the version that logs, metrics and events name."""

    version: str
    text: str


@dataclass(frozen=True)
class Experiment:
    """`stores` have weights of their own; `defaults` are names of the app's default texts beside the packaged ones."""

    weights: Mapping[str, float] = field(default_factory=dict)
    stores: Mapping[UUID, Mapping[str, float]] = field(default_factory=dict)
    defaults: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.weights or self.stores)

    @property
    def name(self) -> str:
        """Return a name that is the same for instances with the same weights."""
        weights = [self.weights, *(self.stores[store] for store in sorted(self.stores))]
        return sha256(repr([sorted(each.items()) for each in weights]).encode()).hexdigest()[:8]

    @property
    def versions(self) -> list[str]:
        """Versions that some session may get."""
        return sorted({version for weights in (self.weights, *self.stores.values()) for version in weights})

    @property
    def control(self) -> str | None:
        """The version that the others are compared with; None: there are weights of stores only."""
        return control(self.weights)

    def control_of(self, version: str) -> str | None:
        """The version that this one is compared with; None: it is compared with none, as the control itself."""
        if version == self.control:
            return None
        others = [control(weights) for weights in (self.weights, *self.stores.values()) if version in weights]
        return next((other for other in (*others, self.control) if other and other != version), None)

    def choose(self, session: UUID, store: UUID | None, sent: str, paused: Set[str] = frozenset()) -> Choice:
        """Return the session's version. A paused version gives its sessions to the control."""
        named = catalogue.name(sent)
        weights = self.stores.get(store, self.weights) if store else self.weights
        if weights and self._is_default(named):
            for version in (_draw(weights, session), control(weights), self.control):
                if version and version not in paused:
                    return _choice(version, sent)
        return Choice(named, _as_sent(sent))

    def _is_default(self, named: str) -> bool:
        return named == catalogue.DEFAULT or named in self.defaults or named in catalogue.app_defaults()


def control(weights: Mapping[str, float]) -> str | None:
    """The heaviest version; of several the first by name, so that no instance reads the order in another way."""
    return min(weights, key=lambda version: (-weights[version], version), default=None)


def _draw(weights: Mapping[str, float], session: UUID) -> str:
    """Shares of the line from 0 to 1 in the order of the names, and the session's point on it."""
    point = int.from_bytes(sha256(b"prompt " + session.bytes).digest()[:8]) / 2**64 * math.fsum(weights.values())
    drawn = sorted(version for version in weights if weights[version])
    for version in drawn:
        point -= weights[version]
        if point < 0:
            return version
    return drawn[-1]


def _choice(version: str, sent: str) -> Choice:
    prompt = catalogue.versions().get(version)
    return Choice(version, prompt.text if prompt else _as_sent(sent))


def _as_sent(sent: str) -> str:
    return sent.strip() or catalogue.versions()[catalogue.DEFAULT].text
