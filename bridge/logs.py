"""One JSON object per line. Never a text, a phone number or a group: Loki keeps these lines."""

import json
import sys
from datetime import UTC, datetime


def log(event: str, level: str = "info", **values: object) -> None:
    """Write what happened, with its values."""
    line = {"event": event, "level": level, "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"), **values}
    sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")  # print() ends the line in a write of its own
    sys.stderr.flush()
