"""The slack of the limiter's window, from the delays between a call's turn and the network.

The window is longer than a minute, because OpenAI sees a call after it was sent, and not always equally late.
"""

from collections import deque

#: At least and at most.
SLACK_SECONDS = (0.03, 0.6)
#: Where one Redis counts for several regions: a distant one grants a call up to half a round trip before it is heard.
SHARED_SLACK_SECONDS = (0.3, 0.9)
_SLACK_PER_DELAY = 3
_DELAYS_REMEMBERED = 300


class Slack:
    """Three times the 95th percentile of the latest delays, between two limits."""

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most
        self._delays = deque[float]([0.0], maxlen=_DELAYS_REMEMBERED)

    def note(self, delay: float) -> None:
        """Note the seconds that one call took from its turn to the network."""
        self._delays.append(delay)

    @property
    def seconds(self) -> float:
        """Slack of the window now."""
        slower = sorted(self._delays)[len(self._delays) * 19 // 20]
        return min(self._most, max(self._least, _SLACK_PER_DELAY * slower))
