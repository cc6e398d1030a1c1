"""A Supabase project on one port: API keys, PostgREST over the sandbox's database, Storage, and faults on demand."""

import asyncio
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.sandbox.control import Commands
from tests.sandbox.faults import Faults, drop
from tests.sandbox.supabase.access import authorize, operation_of
from tests.sandbox.supabase.answers import ANSWERS, answer
from tests.sandbox.supabase.rest import Rest
from tests.sandbox.supabase.storage import Storage, StorageError

#: unavailable answers `status` (503), or with `html` a page; the kinds of `ANSWERS` are the answers of Supabase;
#: replaced gives `body` as JSON after the work was done; drop_before and drop_after reset the connection before or
#: after the work was done, so that after the second one the caller cannot know; hang never answers; partial removes
#: every other object of a removal.
KINDS = frozenset({"unavailable", "replaced", "drop_before", "drop_after", "hang", "partial", *ANSWERS})


class Gateway:
    """`app` is the ASGI application; `use()` names the database, which need not be there at the start."""

    def __init__(self, secret: str, buckets: list[str]) -> None:
        self._secret = secret
        self._url = ""
        self._pool: asyncpg.Pool | None = None
        self._listener: asyncpg.Connection | None = None
        self._pool_lock = asyncio.Lock()
        self.faults = Faults(KINDS)
        self.rest = Rest(self._connections)
        self.storage = Storage(secret, buckets)
        self.requests: dict[str, int] = {}
        routes = [Mount("/rest/v1", routes=self.rest.routes), Mount("/storage/v1", routes=self.storage.routes)]
        handlers: dict[Any, Any] = {StorageError: _storage_error, HTTPException: _http_error}
        self._inner = Starlette(routes=routes, exception_handlers=handlers)
        self.app: ASGIApp = self._entrance
        self.commands: Commands = {
            "use": self.use,
            "reset": self.reset,
            "fault": self.faults.add,
            "clear": self.faults.clear,
            "faults": self.faults.state,
            "objects": self.storage.summary,
            "plant": self.storage.plant,
            "paths": self.storage.paths,
            "requests": lambda: self.requests,
        }

    def content(self, path: str) -> bytes | None:
        """Bytes of a stored object: objects/<bucket>/<path>."""
        kind, _, rest = path.partition("/")
        bucket, _, name = rest.partition("/")
        stored = self.storage.buckets.get(bucket, {}).get(name) if kind == "objects" else None
        return stored.data if stored else None

    async def use(self, database_url: str) -> None:
        """Serve another database."""
        async with self._pool_lock:
            self._url = database_url
            self.rest.catalog.forget()
            if self._pool and self._listener:
                self._pool.terminate()
                self._listener.terminate()
                self._pool = None

    def reset(self) -> None:
        """Forget faults, objects and counts."""
        self.faults.clear()
        self.storage.reset()
        self.requests.clear()

    async def _connections(self) -> asyncpg.Pool:
        async with self._pool_lock:
            if self._pool is None:
                self._listener = await asyncpg.connect(self._url)
                # A migration ends with `notify pgrst, 'reload schema'`.
                await self._listener.add_listener("pgrst", lambda *_: self.rest.catalog.forget())
                # No statement cache: tests change functions while connections are open.
                self._pool = await asyncpg.create_pool(self._url, min_size=1, max_size=20, statement_cache_size=0)
            return self._pool

    async def _entrance(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        operation = operation_of(request.method, request.url.path)
        self.requests[operation] = self.requests.get(operation, 0) + 1
        refused = authorize(request, self._secret)
        if refused:
            return await refused(scope, receive, send)
        text = request.url.path
        if self.faults.read_text:  # buffered only then: uploads are large
            body = await request.body()
            text, receive = text + body.decode("latin-1"), _again(body, receive)
        fault = await self.faults.strike(operation, text)
        if fault is None:
            return await self._inner(scope, receive, send)
        if fault.kind == "unavailable" or fault.kind in ANSWERS:
            await Request(scope, receive).body()  # as a server that has read it all
            return await answer(fault.kind, fault.options)(scope, receive, send)
        if fault.kind == "partial":
            scope["sandbox.partial"] = True
            return await self._inner(scope, receive, send)
        if fault.kind == "replaced":
            await self._inner(scope, receive, _nowhere)
            return await JSONResponse(fault.options["body"])(scope, receive, send)
        if fault.kind == "drop_before":
            await Request(scope, receive).body()  # else a reset may hit the client while it still sends
        if fault.kind == "drop_after":
            await self._inner(scope, receive, _nowhere)
        if fault.kind == "hang":
            await self.faults.hang(receive)
        drop(scope, fault)


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read already to the next reader."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _nowhere(message: Message) -> None:
    """Swallow the answer."""


async def _storage_error(request: Request, error: StorageError) -> Response:
    return error.answer


async def _http_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"message": error.detail}, error.status_code)
