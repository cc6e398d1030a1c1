"""Counts what became of the messages: sent (WhatsApp's server has it), delivered (a phone has it), failed."""

import threading
import time
from collections.abc import Iterable
from pathlib import Path

#: Messages whose receipt is waited for; the oldest is forgotten first.
MAXIMUM_PENDING = 1000
#: A phone that is off for longer gets the message later, and its receipt is not waited for any more.
FORGOTTEN_AFTER_SECONDS = 24 * 3600


class Deliveries:
    """The counters, and when each message without a receipt was sent. Safe to use from several threads."""

    def __init__(self, data: Path) -> None:
        self.counts = {"sent": 0, "delivered": 0, "failed": 0}
        self._pending: dict[str, float] = {}
        self._early: dict[str, None] = {}
        self._lock = threading.Lock()
        self._last = data / "last-delivered"  # survives a restart, for the weekly proof of the path

    def sent(self, message_id: str) -> None:
        """Count a message that WhatsApp's server took, and wait for its receipt."""
        with self._lock:
            self.counts["sent"] += 1
            if message_id in self._early:
                del self._early[message_id]
                self._count_delivery()
            else:
                self._pending[message_id] = time.time()
            if len(self._pending) > MAXIMUM_PENDING:
                del self._pending[next(iter(self._pending))]

    def failed(self) -> None:
        """Count a message that WhatsApp did not take."""
        with self._lock:
            self.counts["failed"] += 1

    def delivered(self, message_ids: Iterable[str]) -> None:
        """Count receipts, once for each message; a receipt can overtake the answer to the sending."""
        with self._lock:
            for message_id in message_ids:
                if self._pending.pop(message_id, None) is not None:
                    self._count_delivery()
                else:
                    self._early[message_id] = None
            while len(self._early) > MAXIMUM_PENDING:
                del self._early[next(iter(self._early))]

    def undelivered_seconds(self) -> float:
        """Age of the oldest message without a receipt; 0 if there is none."""
        now = time.time()
        with self._lock:
            for message_id in [one for one, sent in self._pending.items() if now - sent > FORGOTTEN_AFTER_SECONDS]:
                del self._pending[message_id]
            return max((now - sent for sent in self._pending.values()), default=0)

    def last_delivered(self) -> float | None:
        """Time of the last receipt, also of one before the last start."""
        return self._last.stat().st_mtime if self._last.exists() else None

    def _count_delivery(self) -> None:
        self.counts["delivered"] += 1
        self._last.touch()
