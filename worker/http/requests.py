"""The middleware of every HTTP request: a request id, a size limit, and a last resort for errors."""

import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.logs import bind, get_logger
from worker.sizing import api, metrics
from worker.sizing.hang_up import ClientGone

log = get_logger(__name__)

MAX_BODY_BYTES = 65_536
#: A larger body is read to here, and forgotten: a connection closed before that may lose the client our answer.
MAX_DISCARDED_BYTES = 1_000_000
REQUEST_ID_HEADER = "X-Request-Id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")


class _Refused(Exception):
    """The answer to a request that no route sees."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.answer = JSONResponse({"detail": detail}, status, headers)


class RequestMiddleware:
    """Binds the request id to all log lines, echoes it, limits the body and answers 500 for uncaught errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID_HEADER, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{uuid4()}"
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        with bind(request_id=request_id):
            try:
                if _declared_length(headers) > MAX_DISCARDED_BYTES:
                    raise _too_large()
                body = await _bounded(receive)
                if (scope["method"], scope["path"]) == ("POST", api.PATH) and not _may_be_json(headers):
                    raise _Refused(415, "The request body must be JSON, sent with `Content-Type: application/json`.")
                await self._app(scope, body, send_with_id)
            except ClientGone:
                _count(scope, "aborted")
                # Nothing is sent any more; the status is for the metrics.
                await JSONResponse({"detail": "The client hung up."}, 499)(scope, receive, send_with_id)
            except _Refused as refused:
                _count(scope, "invalid")
                await refused.answer(scope, receive, send_with_id)
            except Exception:
                _count(scope, "failed")
                log.exception("request_failed", path=scope["path"])
                if started:
                    raise
                answer = JSONResponse({"detail": "Something went wrong on our side."}, 500)
                await answer(scope, receive, send_with_id)


def _too_large() -> _Refused:
    # The rest of the body would be read as the next request.
    return _Refused(413, f"The request body is larger than {MAX_BODY_BYTES} bytes.", {"Connection": "close"})


def _count(scope: Scope, outcome: str) -> None:
    if scope["path"] == api.PATH:
        metrics.ended(outcome)


def _declared_length(headers: Headers) -> int:
    value = headers.get("Content-Length", "")
    if not (value.isascii() and value.isdigit()):
        return 0
    digits = value.lstrip("0")
    return int(digits or "0") if len(digits) < 19 else MAX_DISCARDED_BYTES + 1


def _may_be_json(headers: Headers) -> bool:
    """Return True if the content type is JSON or missing."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in {"", "application/json"} or (kind.startswith("application/") and kind.endswith("+json"))


async def _bounded(receive: Receive) -> Receive:
    """The whole body as one message, read before the application parses it, so that its size is always known."""
    body = bytearray()
    size = 0
    more = True
    while more and size <= MAX_DISCARDED_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY_BYTES:
            body += part
        more = message.get("more_body", False)
    if size > MAX_BODY_BYTES:
        raise _too_large()
    replay: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def receive_replayed() -> Message:
        return replay.pop() if replay else await receive()

    return receive_replayed
