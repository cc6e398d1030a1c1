"""One JSON object per line from every process, whoever writes it: our code, Celery, uvicorn, native libraries.

`request_id`, `session_id` and `channel` are bound once per generation or HTTP request with `bind()`.
"""

import logging
import os
import sys
import threading
import warnings
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

#: Noisy or leaky: httpx logs full URLs (signed ones, too) at INFO.
_QUIET = (
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "openai",
    "hpack",
    "PIL",
    "asyncio",
    "celery.redirected",
    "uvicorn.access",
)

bind = structlog.contextvars.bound_contextvars
get_logger = structlog.stdlib.get_logger


def configure(level: str, part: str) -> None:
    """Send all log lines of this process to stdout as JSON; `part` says which process of the container it is."""

    def name_part(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("part", part)
        event["service"] = "worker"
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        name_part,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default")
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def capture_stderr() -> None:
    """Turn everything written to file descriptor 2 (native libraries, interpreter messages) into JSON log lines."""
    read_end, write_end = os.pipe()
    os.dup2(write_end, 2)
    os.close(write_end)

    def pump() -> None:
        log = get_logger("stderr")
        with os.fdopen(read_end, errors="replace") as lines:
            for line in lines:
                if line.strip():
                    log.info("stderr_written", text=line.rstrip()[:2000])

    threading.Thread(target=pump, name="stderr", daemon=True).start()


def _log_uncaught(kind: Any, error: Any, trace: Any) -> None:
    get_logger("worker").critical("process_crashed", exc_info=(kind, error, trace))
