"""One JSON object per line from every process, for the lines of our code, Celery, uvicorn and native libraries.

`request_id`, `session_id` and `channel` are bound once per generation or HTTP request with `bind()`.
"""

import json
import logging
import os
import re
import sys
import threading
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

#: Leaky (httpx logs full URLs, signed ones, too) or noise beside our own lines.
_QUIET = ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "hpack", "PIL", "celery", "kombu", "uvicorn")

#: What no line may show, though a library's message or an exception's text may have it: credentials and signatures in
#: addresses, tokens, keys, e-mail addresses. Each with a word without which it need not be looked for.
_SECRETS = (
    ("://", re.compile(r"(://)[^\s/@\"']*@"), r"\1***@"),
    ("?", re.compile(r"(https?://[^\s\"'\\?]*\?)[^\s\"'\\]+"), r"\1***"),
    ("eyJ", re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*"), "***"),
    ("sk-", re.compile(r"\bsk-[\w-]{8,}"), "***"),
    ("sb_secret_", re.compile(r"\bsb_secret_[\w-]+"), "***"),
    ("@", re.compile(r"[\w.+-]{1,64}@[\w-]+(\.[\w-]+)+"), "***"),
)

#: The engine splits a longer line at 16 KB, and the pieces are no JSON.
_LINE_LIMIT = 16_000

#: The process's real standard output once `configure` has run.
stdout: TextIO = sys.stdout

bind = structlog.contextvars.bound_contextvars
bound = structlog.contextvars.get_contextvars
get_logger = structlog.stdlib.get_logger


def configure(level: str, part: str, region: str = "") -> None:
    """Send everything that this process writes to stdout as JSON; `part` says which process of the container it is."""
    where = {"region": region} if region else {}

    def name_part(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("part", part)
        event["service"] = "worker"
        event.update(where)
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
    global stdout  # noqa: PLW0603  # a child process has to be given it
    stdout = _own_stdout()
    handler = logging.StreamHandler(stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _render(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Return the event as one line of JSON; of a line that is too long the values lose their middle."""
    hidden = {key: _hide_secrets(value) for key, value in event.items()}
    line = json.dumps(hidden)
    for limit in (2000, 200, 20):
        if len(line) <= _LINE_LIMIT:
            break
        line = json.dumps({key: _shortened(value, limit) for key, value in hidden.items()})
    return line


def _shortened(value: Any, limit: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def _hide_secrets(value: Any) -> Any:
    """The value with `***` in place of each secret. A last resort: no event of the worker relies on it.

    Before the line is JSON: an escape in front of a secret would become a part of the secret, or hide the secret.
    """
    if isinstance(value, dict):
        return {_hide_secrets(str(key)): _hide_secrets(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_hide_secrets(one) for one in value]
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    for word, pattern, instead in _SECRETS:
        if word in text:
            text = pattern.sub(instead, text)
    return text


def _own_stdout() -> TextIO:
    """Return the stream of our lines. Text that other code prints (Celery, native libraries) becomes a line."""
    own = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    read_end, write_end = os.pipe()
    for descriptor in (1, 2):
        os.dup2(write_end, descriptor)
    os.close(write_end)
    threading.Thread(target=_pump, args=(read_end,), name="foreign-output", daemon=True).start()
    return own


def _pump(read_end: int) -> None:
    log = get_logger("foreign")
    with os.fdopen(read_end, errors="replace") as lines:
        for line in lines:
            if line.strip():
                log.info("foreign_output", text=line.rstrip()[:2000])


def _log_uncaught(kind: Any, error: Any, trace: Any) -> None:
    get_logger("worker").critical("process_crashed", exc_info=(kind, error, trace))
