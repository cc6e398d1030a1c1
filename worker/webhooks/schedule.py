"""The times of a delivery's attempts: eight within 24 hours."""

import random

#: After each failed attempt; the eighth failure ends the delivery.
WAITS_SECONDS = (5.0, 60.0, 600.0, 3600.0, 3 * 3600.0, 7 * 3600.0, 12.75 * 3600.0)
ATTEMPTS = len(WAITS_SECONDS) + 1
#: The longest wait that a `Retry-After` can ask for.
RETRY_AFTER_MAX_SECONDS = 3600.0


def wait_after(attempt: int, retry_after: float = 0.0) -> float | None:
    """Seconds from the failed attempt (1 is the first) to the next one; None: it was the last.

    Shortened by up to 15 percent at random, so that the callbacks of an outage do not come back all at once.
    """
    if attempt >= ATTEMPTS:
        return None
    wait = WAITS_SECONDS[max(attempt, 1) - 1] * random.uniform(0.85, 1.0)  # noqa: S311  # no secret
    return max(wait, min(retry_after, RETRY_AFTER_MAX_SECONDS))
