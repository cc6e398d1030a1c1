"""Everything that this container needs to do its work, as last seen. Asking never waits, so /health is always fast."""

import time
from dataclasses import dataclass, field
from typing import Any, Literal

#: A part that has not shown itself for this long counts as hung.
HEARTBEAT_TIMEOUT_SECONDS = 30.0
#: What /health says while Redis is at its limit of memory.
_FULL = (
    "Redis is full: it refuses new messages, and what waits is worked off. "
    "Wait until the queue is shorter, or raise its limit (maxmemory)."
)


@dataclass
class Part:
    """One of the parts that `wearon-worker run` supervises."""

    seen: float = field(default_factory=time.monotonic)
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self.seen


@dataclass
class Health:
    """Written by the supervisor and its parts, read by /health and /ready."""

    state: Literal["starting", "ready", "draining"] = "starting"
    model_loaded: bool = False
    redis_connected: bool = False
    #: Why Redis is not connected, as a sentence; empty: Redis is connected, or was not asked yet.
    redis_problem: str = ""
    #: When Redis last answered a part; 0: a part has seen Redis fail since.
    redis_seen: float = 0.0
    #: Redis is at its limit of memory.
    redis_full: bool = False
    database_connected: bool = False
    #: Why nothing is taken from the queue although the worker runs; empty when it is.
    intake_paused: str = ""
    parts: dict[str, Part] = field(default_factory=dict)

    def beat(self, part: str, **detail: Any) -> None:
        """Note that `part` is alive; `detail` is shown in /health."""
        self.parts[part] = Part(detail=detail)

    def progress(self, part: str) -> None:
        """Note that a long round of `part` goes on. Before the first beat the round is part of the longer start."""
        if part in self.parts:
            self.beat(part)

    def hung(self) -> list[str]:
        """Parts without a heartbeat for longer than HEARTBEAT_TIMEOUT_SECONDS."""
        return [name for name, part in self.parts.items() if part.silent_seconds > HEARTBEAT_TIMEOUT_SECONDS]

    def ready(self) -> bool:
        """Return True while this container may get new work."""
        return self.state == "ready" and self.model_loaded and self.redis_connected

    def report(self) -> dict[str, Any]:
        """The body of GET /health (docs/contracts.md, Size API)."""
        checks = self.model_loaded and self.redis_connected and self.database_connected
        fine = checks and self.state == "ready" and not (self.intake_paused or self.redis_full or self.hung())
        return {
            "status": "ok" if fine else "degraded",
            "state": self.state,
            "model_loaded": self.model_loaded,
            "redis_connected": self.redis_connected,
            "redis_problem": self.redis_problem or None,
            "redis_full": _FULL if self.redis_full else None,
            "database_connected": self.database_connected,
            "intake_paused": self.intake_paused or None,
            "parts": {
                name: {"silent_seconds": round(part.silent_seconds, 1), **part.detail}
                for name, part in self.parts.items()
            },
        }
