"""`POST /__control` of each server: commands as JSON, `{"fault": {"kind": "rate_limited", "times": 2}}`."""

import inspect
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.sandbox.remote import CONTROL

Commands = dict[str, Callable[..., Any]]


class Control:
    """Lets everything but the control path through; below it, `content` gives bytes that JSON does not carry."""

    def __init__(self, application: ASGIApp, commands: Commands, content: Callable[[str], bytes | None]) -> None:
        self._application, self._commands, self._content = application, commands, content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(CONTROL):
            return await self._application(scope, receive, send)
        request = Request(scope, receive)
        if request.method == "POST":
            status, body = await run(self._commands, await request.body())
            return await Response(body, status, media_type="application/json")(scope, receive, send)
        data = self._content(request.url.path.removeprefix(CONTROL).lstrip("/"))
        await Response(data, 404 if data is None else 200)(scope, receive, send)


async def run(commands: Commands, body: bytes) -> tuple[int, bytes]:
    """Carry out the commands of one body in order; status and the results by name."""
    results: dict[str, Any] = {}
    try:
        for name, arguments in json.loads(body).items():
            if name not in commands:
                raise ValueError(f"unknown command {name!r}; there are: {', '.join(commands)}")
            result = commands[name](**arguments)
            results[name] = await result if inspect.isawaitable(result) else result
    except (ValueError, TypeError, AttributeError) as error:
        return 400, json.dumps({"error": str(error)}).encode()
    return 200, json.dumps(results).encode() + b"\n"
