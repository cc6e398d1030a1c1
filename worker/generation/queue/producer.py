"""The Next.js app's part, for `wearon-worker enqueue`: deduct a credit, insert the session, push the message."""

import asyncio
import mimetypes
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from storage3 import AsyncStorageClient

from worker import clients
from worker.errors import WorkerError
from worker.generation import keys
from worker.generation.channel import Channel
from worker.generation.message import VERSION, GenerationMessage
from worker.generation.retrying import retry_for
from worker.generation.supabase.database import rows, run
from worker.generation.supabase.refusals import refusal
from worker.settings import Settings

_POLL_SECONDS = 0.3
#: While a session is followed, a database that is away is waited for this long.
_PATIENCE_SECONDS = 15.0
_COLUMNS = "status,error_message,generated_image_url,input_tokens,output_tokens,estimated_cost_usd,processing_time_ms"


class EnqueueFailed(WorkerError):
    """The try-on could not be queued; no credit is gone."""


@dataclass(frozen=True)
class Owner:
    """The user or store that asks for the try-on and pays, unless the store's shopper does."""

    channel: Channel
    id: UUID
    shopper_email: str | None = None


@dataclass(frozen=True)
class File:
    """A picture that has to be uploaded first."""

    name: str
    content: bytes


class Producer:
    """Queues try-ons and follows them."""

    def __init__(
        self, settings: Settings, redis: Redis, database: AsyncPostgrestClient, storage: AsyncStorageClient
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._database = database
        self._bucket = storage.from_(settings.supabase_storage_bucket)

    async def enqueue(self, owner: Owner, pictures: list[str | File], more: dict[str, Any]) -> GenerationMessage:
        """Deduct, insert, push; `pictures` are URLs, or files, which are uploaded first.

        `more` are optional fields of the message, such as its prompt.
        """
        session_id = uuid4()
        urls = [await self._url(picture, session_id, number) for number, picture in enumerate(pictures)]
        message = _message(owner, session_id, urls, more)
        if not await self._deduct(owner, message.request_id):
            raise EnqueueFailed(f"{owner.shopper_email or f'{owner.channel} owner {owner.id}'} has no credit left")
        try:
            await self._insert(owner, message)
            await self._redis.lpush(keys.QUEUE, message.model_dump_json(exclude_none=True))
        except (RedisError, APIError, httpx.HTTPError, OSError) as error:
            await self._refund(owner, message)
            raise EnqueueFailed(f"not queued, the credit went back: {told(error)}") from error
        return message

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

    async def _deduct(self, owner: Owner, request_id: str) -> bool:
        function, parameters = self._credit_call("deduct", owner, request_id)
        return (await self._database.rpc(function, parameters).execute()).data is True

    async def _refund(self, owner: Owner, message: GenerationMessage) -> None:
        function, parameters = self._credit_call("refund", owner, message.request_id)
        await self._database.rpc(function, parameters).execute()
        failed = {"status": "failed", "error_message": "Your try-on could not be queued.", "completed_at": _now()}
        await self._database.table(owner.channel.table).update(failed).eq("id", str(message.session_id)).execute()

    def _credit_call(self, verb: str, owner: Owner, request_id: str) -> tuple[str, dict[str, Any]]:
        common = {"p_amount": 1, "p_description": f"wearon-worker enqueue {request_id}"}
        if owner.channel is Channel.B2C:
            return f"{verb}_credits", {"p_user_id": str(owner.id), **common}
        store = {"p_store_id": str(owner.id), "p_request_id": request_id, **common}
        if owner.shopper_email is None:
            return f"{verb}_store_credits", store
        return f"{verb}_store_shopper_credits", {**store, "p_shopper_email": owner.shopper_email}

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
        await self._database.table(owner.channel.table).insert(row).execute()


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


def _message(owner: Owner, session_id: UUID, urls: list[str], more: dict[str, Any]) -> GenerationMessage:
    try:
        return GenerationMessage.model_validate(
            {
                "task_id": str(uuid4()),
                "channel": owner.channel,
                owner.channel.owner_column: str(owner.id),
                "session_id": str(session_id),
                "image_urls": urls,
                **more,
                "request_id": f"req_{uuid4()}",
                "version": VERSION,
                "created_at": _now(),
            }
        )
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise EnqueueFailed(f"not queued, no credit was spent: {problems}") from None


def _now() -> str:
    return datetime.now(UTC).isoformat()
