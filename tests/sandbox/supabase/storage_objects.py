"""Objects of Supabase Storage: how they come in, go out and are described, and the errors about them."""

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class StorageError(Exception):
    """Supabase Storage answers 400 to nearly everything and puts the real status into the body."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.answer = JSONResponse(
            {"statusCode": str(status), "error": error, "message": message}, 500 if status == 500 else 400
        )


@dataclass
class Stored:
    """One object of a bucket."""

    data: bytes
    content_type: str
    cache_control: str
    metadata: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    versions: int = 1


async def received(request: Request) -> Stored:
    """The object in an upload: a form as storage3 sends it, or the raw body."""
    kind = request.headers.get("content-type", "application/octet-stream")
    cache = request.headers.get("cache-control", "no-cache")
    if not kind.startswith("multipart/form-data"):
        return Stored(await request.body(), kind, cache, {})
    async with request.form() as form:
        part = next((value for value in form.values() if isinstance(value, UploadFile)), None)
        if part is None:
            raise StorageError(400, "InvalidRequest", "No content provided")
        metadata = json.loads(str(form.get("metadata") or "{}"))
        cache = f"max-age={form['cacheControl']}" if "cacheControl" in form else cache
        return Stored(await part.read(), part.content_type or "application/octet-stream", cache, metadata)


def content_of(stored: Stored) -> Response:
    """The answer to a download."""
    headers = {"Cache-Control": stored.cache_control, "ETag": f'"{stored.id}"'}
    return Response(stored.data, headers=headers, media_type=stored.content_type)


def described(name: str, stored: Stored) -> dict[str, Any]:
    """The object as lists and details show it."""
    times = {"created_at": stored.created_at.isoformat(), "updated_at": stored.updated_at.isoformat()}
    details = {"size": len(stored.data), "mimetype": stored.content_type, "cacheControl": stored.cache_control}
    return {"id": stored.id, "name": name, **times, "metadata": {**stored.metadata, **details}}


def not_found() -> StorageError:
    """There is no such object."""
    return StorageError(404, "not_found", "Object not found")
