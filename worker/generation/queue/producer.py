"""The Next.js app's part, for `wearon-worker enqueue`: deduct a credit, insert the session, push the message."""

import asyncio
import mimetypes
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from storage3 import AsyncStorageClient

from worker import clients
from worker.errors import CallRejected, ServiceUnavailable, WorkerError
from worker.generation import keys
from worker.generation.channel import Channel, SessionRef
from worker.generation.message import GenerationMessage
from worker.generation.queue.order import EnqueueFailed, File, Owner, message_of
from worker.generation.retrying import retry_for
from worker.generation.sessions.sessions import Sessions
from worker.generation.supabase.database import AnswerLost, rows, run
from worker.generation.supabase.refusals import refusal
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
        """Deduct, insert, push; `pictures` are URLs, or files, which are uploaded first.

        `more` are optional fields of the message, such as its prompt.
        """
        session_id = uuid4()
        urls = [await self._url(picture, session_id, number) for number, picture in enumerate(pictures)]
        message = message_of(owner, session_id, urls, more)
        order = asyncio.create_task(self._order(owner, message))
        try:
            await asyncio.shield(order)
        except asyncio.CancelledError:
            await order  # half of it would part the credit from its session
            raise EnqueueFailed(f"interrupted, but session {session_id} is queued") from None
        return message

    async def _order(self, owner: Owner, message: GenerationMessage) -> None:
        deducted = False
        try:
            deducted = await self._deduct(owner, message)
            if not deducted:
                raise EnqueueFailed(f"{owner.shopper_email or f'{owner.channel} owner {owner.id}'} has no credit left")
            await self._insert(owner, message)
            await self._redis.lpush(keys.QUEUE, message.model_dump_json(exclude_none=True))
        except (ServiceUnavailable, CallRejected, RedisError) as error:
            if not deducted and not isinstance(error, AnswerLost):
                raise EnqueueFailed(f"not queued, no credit was spent: {error}") from error
            if await self._fail(owner, message, error) != "completed":
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

    async def _url(self, picture: str | File, session_id: UUID, number: int) -> str:
        if isinstance(picture, str):
            return picture
        kind = mimetypes.guess_type(picture.name)[0] or "application/octet-stream"
        path = f"uploads/{session_id}/{number}"
        await self._bucket.upload(path, picture.content, {"content-type": kind, "upsert": "true"})
        return str((await self._bucket.create_signed_url(path, self._settings.signed_url_seconds))["signedURL"])

    async def _deduct(self, owner: Owner, message: GenerationMessage) -> bool:
        # The session's id binds the deduction to its session, as sql/functions.sql does.
        parameters: dict[str, Any] = {
            "p_amount": 1,
            "p_description": f"wearon-worker enqueue (session={message.session_id})",
        }
        function = "deduct_credits"
        if owner.channel is Channel.B2C:
            parameters["p_user_id"] = str(owner.id)
        else:
            parameters |= {"p_store_id": str(owner.id), "p_request_id": message.request_id}
            function = "deduct_store_credits"
        if owner.shopper_email is not None:
            parameters["p_shopper_email"] = owner.shopper_email
            function = "deduct_store_shopper_credits"
        return await run(self._database.rpc(function, parameters)) is True

    async def _fail(self, owner: Owner, message: GenerationMessage, error: Exception) -> str:
        """Fail the session, with its refund; the session's status: a worker may have completed the session meanwhile.

        `error` may have cost no more than the answer of a call that was made. So the row is inserted where it is
        missing, and the ledger decides about the refund.
        """
        session = SessionRef(owner.channel, message.session_id)
        retry = retry_for(_PATIENCE_SECONDS)
        try:
            with suppress(CallRejected):
                await retry(self._insert, owner, message)
            end = await retry(self._sessions.fail, session, "Your try-on could not be queued.", None)
        except ServiceUnavailable as second:
            raise EnqueueFailed(
                f"not queued: {error}. The credit has not come back yet: {second}. A running worker refunds session "
                f"{session.id} within minutes; if there is none, give back by hand what the ledger shows of it"
            ) from error
        if end.status is None:
            raise EnqueueFailed(
                f"not queued: {error}. The database takes no session of this owner: give the credit of "
                f"{message.request_id} back by hand, if the ledger shows that it was taken"
            ) from error
        return end.status

    async def _insert(self, owner: Owner, message: GenerationMessage) -> None:
        row: dict[str, Any] = {
            "id": str(message.session_id),
            "status": "queued",
            "model_image_url": message.image_urls[0],
            "outfit_image_url": message.image_urls[1] if len(message.image_urls) > 1 else None,
            "prompt_system": "",
            "prompt_user": message.prompt,
            "credits_used": 1,
        }
        if owner.channel is Channel.B2C:
            row |= {"user_id": str(owner.id), "accessories": message.image_urls[2:]}
        else:
            row |= {"store_id": str(owner.id), "request_id": message.request_id, "shopper_email": owner.shopper_email}
        await run(self._database.table(owner.channel.table).insert(row))


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


def told(error: Exception) -> str:
    """One line for an error of a service: the meaning of Supabase's answer, or the error's own words."""
    if isinstance(error, APIError | httpx.HTTPStatusError):
        return str(refusal(error))
    return f"{type(error).__name__}: {error}"


async def _row(query: Any) -> dict[str, Any]:
    found = rows(await run(query), "status")
    if not found:
        raise WorkerError("the session is gone from the database")
    return found[0]
