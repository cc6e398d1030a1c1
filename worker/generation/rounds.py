"""Rounds of a loop that goes on whatever fails: of failures in a row only the first is logged."""

from redis.exceptions import RedisError

from worker.errors import WorkerError
from worker.logs import get_logger

log = get_logger(__name__)


class Rounds:
    """The rounds of one loop; `event` is the log line of a failure."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._failed = False

    def succeeded(self) -> None:
        """Note that a round has reached its end."""
        self._failed = False

    def failed(self, error: Exception) -> None:
        """Note a failure; an error of an unknown kind is logged with its traceback."""
        if not self._failed:
            known = isinstance(error, WorkerError | RedisError | OSError)
            log.warning(self._event, error=str(error) or type(error).__name__, exc_info=not known)
        self._failed = True
