"""The Next.js app's part, for `wearon-worker enqueue`: take a credit, make the session, push the message."""

import asyncio
import mimetypes
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis
from redis.exceptions import RedisError
from storage3 import AsyncStorageClient

from worker import clients
from worker.errors import CallRejected, ServiceUnavailable, WorkerError
from worker.generation import keys
from worker.generation.channel import SessionRef
from worker.generation.message import GenerationMessage
from worker.generation.queue.order import EnqueueFailed, File, Owner, message_of, session_row
from worker.generation.retrying import retry_for
from worker.generation.sessions.sessions import Sessions
from worker.generation.supabase.database import AnswerLost, call, rows, run
from worker.settings import Settings

_POLL_SECONDS = 0.3
#: While a session is followed, a database that is away is waited for this long.
_PATIENCE_SECONDS = 15.0
_COLUMNS = "status,error_message,generated_image_url,input_tokens,output_tokens,estimated_cost_usd,processing_time_ms"


class Producer:
    """Queues try-ons and follows them."""

    def __init__(
        self, settings: Settings, redis: Redis, database: AsyncPostgrestClient, storage: AsyncStorageClient
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._database = database
        self._sessions = Sessions(database)
        self._bucket = storage.from_(settings.supabase_storage_bucket)

    async def enqueue(self, owner: Owner, pictures: list[str | File], more: dict[str, Any]) -> GenerationMessage:
        """Take the credit, make the session, push; `pictures` are URLs, or files, which are uploaded first.

        `more` are optional fields of the message, such as its prompt.
        """
        session_id = uuid4()
        folder = owner.channel.upload_folder(owner.id)
        urls = [await self._url(it, f"{folder}{session_id}/{number}") for number, it in enumerate(pictures)]
        message = message_of(owner, session_id, urls, more)
        order = asyncio.create_task(self._order(owner, message))
        try:
            await asyncio.shield(order)
        except asyncio.CancelledError:
            await order  # half of it would be a session without a message
            raise EnqueueFailed(f"interrupted, but session {session_id} is queued") from None
        return message

    async def _order(self, owner: Owner, message: GenerationMessage) -> None:
        if await self._begin(owner, message) is None:
            raise EnqueueFailed(f"{owner.shopper_email or f'{owner.channel} owner {owner.id}'} has no credit left")
        try:
            await self._redis.lpush(keys.QUEUE, message.model_dump_json(exclude_none=True))
        except RedisError as error:  # which may have cost no more than the answer
            if await self._fail(message, error) != "completed":
                raise EnqueueFailed(f"not queued, the credit went back: {error}") from error

    async def follow(self, message: GenerationMessage, timeout_seconds: float) -> AsyncIterator[dict[str, Any]]:
        """The session's row at every change of its status, the last one completed or failed."""
        status, deadline = "", time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            query = self._database.table(message.channel.table).select(_COLUMNS).eq("id", str(message.session_id))
            row = await retry_for(_PATIENCE_SECONDS)(_row, query)
            if row["status"] != status:
                status = row["status"]
                yield row
            if status in ("completed", "failed"):
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise WorkerError(
            f"session {message.session_id} is still {status} after {timeout_seconds:g} s; is a worker running?"
        )

    async def _url(self, picture: str | File, path: str) -> str:
        if isinstance(picture, str):
            return picture
        kind = mimetypes.guess_type(picture.name)[0] or "application/octet-stream"
        await self._bucket.upload(path, picture.content, {"content-type": kind, "upsert": "true"})
        return str((await self._bucket.create_signed_url(path, self._settings.signed_url_seconds))["signedURL"])

    async def _begin(self, owner: Owner, message: GenerationMessage) -> str | None:
        """Take the credit and make the session, both or neither; the session's status, None without a credit."""
        parameters = {
            "p_channel": owner.channel,
            "p_session": session_row(message, owner.shopper_email),
            "p_description": "wearon-worker enqueue",
        }
        begin = partial(_begun, self._database, parameters)
        try:
            return await begin()
        except AnswerLost:
            try:
                return await retry_for(_PATIENCE_SECONDS)(begin)
            except (ServiceUnavailable, CallRejected) as error:
                raise EnqueueFailed(f"not queued: {error}. Perhaps a credit was taken. {_refunds(message)}") from error
        except (ServiceUnavailable, CallRejected) as error:
            raise EnqueueFailed(f"not queued, no credit was spent: {error}") from error

    async def _fail(self, message: GenerationMessage, error: Exception) -> str | None:
        """Fail the session, with its refund; its status now: a worker may have completed the session meanwhile."""
        session = SessionRef(message.channel, message.session_id)
        try:
            fail = retry_for(_PATIENCE_SECONDS)
            return (await fail(self._sessions.fail, session, "Your try-on could not be queued.", None)).status
        except ServiceUnavailable as second:
            raise EnqueueFailed(
                f"not queued: {error}. The credit has not come back yet: {second}. {_refunds(message)}"
            ) from error


@asynccontextmanager
async def producer(settings: Settings) -> AsyncIterator[Producer]:
    """A producer with its connections."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(clients.http_client(clients.SUPABASE_TIMEOUT, connections=5))
        storage = await stack.enter_async_context(clients.http_client(clients.STORAGE_TIMEOUT, connections=5))
        redis = await stack.enter_async_context(clients.redis_client(settings))
        yield Producer(
            settings, redis, clients.database_client(settings, database), clients.storage_client(settings, storage)
        )


async def _begun(database: AsyncPostgrestClient, parameters: dict[str, Any]) -> str | None:
    answer = await call(database, "wearon_begin_session", parameters)
    if "status" not in answer:
        raise AnswerLost("database answered wearon_begin_session without the session's status")
    return answer["status"]  # type: ignore[no-any-return]


def _refunds(message: GenerationMessage) -> str:
    return (
        f"A running worker refunds session {message.session_id} within minutes; if there is none, give back by hand "
        "what the ledger shows of it"
    )


async def _row(query: Any) -> dict[str, Any]:
    found = rows(await run(query), "status")
    if not found:
        raise WorkerError("the session is gone from the database")
    return found[0]
