"""A sign that Celery's own event loop turns."""

from collections.abc import Callable
from typing import Any

from celery.bootsteps import StartStopStep


def turns(seen: Callable[[], None], seconds: float) -> type[StartStopStep]:
    """The step that calls `seen` this often; started anew with every connection to Redis.

    A step of the worker would be started only once, and Celery forgets all timers when it loses its connection.
    """

    class Turns(StartStopStep):  # type: ignore[misc]  # Celery has no types
        requires = {"celery.worker.consumer.connection:Connection"}  # noqa: RUF012  # Celery's way

        def start(self, parent: Any) -> None:
            self.timer = parent.timer.call_repeatedly(seconds, seen)

        def stop(self, parent: Any) -> None:
            self.timer.cancel()

    return Turns
