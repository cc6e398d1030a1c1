"""The part of Supabase Storage that its clients use: buckets, objects in memory, signed URLs that are verified."""

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import time
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.sandbox.tokens import TokenError, sign, verify


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


class Storage:
    """Endpoints under /storage/v1."""

    def __init__(self, secret: str, buckets: list[str]) -> None:
        self._secret = secret
        self._names = buckets
        self.reset()
        path = "/object/{bucket}/{path:path}"
        self.routes = [
            Route("/bucket", self.list_buckets, methods=["GET"]),
            Route("/bucket", self.create_bucket, methods=["POST"]),
            Route("/bucket/{bucket}", self.get_bucket, methods=["GET"]),
            Route("/object/sign/{bucket}/{path:path}", self.sign, methods=["POST"]),
            Route("/object/sign/{bucket}/{path:path}", self.signed, methods=["GET"]),
            Route("/object/info/{bucket}/{path:path}", self.info, methods=["GET"]),
            Route("/object/list/{bucket}", self.list_objects, methods=["POST"]),
            Route("/object/authenticated/{bucket}/{path:path}", self.download, methods=["GET"]),
            Route("/object/public/{bucket}/{path:path}", self.public, methods=["GET"]),
            Route("/object/{bucket}", self.remove, methods=["DELETE"]),
            Route(path, self.upload, methods=["POST", "PUT"]),
            Route(path, self.download, methods=["GET"]),
            Route(path, self.remove, methods=["DELETE"]),
        ]

    def reset(self) -> None:
        """Empty private buckets again."""
        self.buckets: dict[str, dict[str, Stored]] = {name: {} for name in self._names}
        self._public: set[str] = set()

    def summary(self) -> list[dict[str, Any]]:
        """All objects without their bytes, for tests."""
        return [
            {"bucket": bucket, "versions": stored.versions, **_described(name, stored)}
            for bucket, objects in self.buckets.items()
            for name, stored in objects.items()
        ]

    async def upload(self, request: Request) -> Response:
        """POST creates (or overwrites, with x-upsert), PUT replaces; the body is raw or a form as storage3 sends it."""
        objects, path = self._bucket(request), request.path_params["path"]
        old = objects.get(path)
        if request.method == "POST" and old and request.headers.get("x-upsert") != "true":
            raise StorageError(409, "Duplicate", "The resource already exists")
        if request.method == "PUT" and not old:
            raise _not_found()
        new = await _received(request)
        if old:
            new.id, new.created_at, new.versions = old.id, old.created_at, old.versions + 1
        objects[path] = new
        return JSONResponse({"Key": f"{request.path_params['bucket']}/{path}", "Id": new.id})

    async def sign(self, request: Request) -> Response:
        """A relative URL with a token that runs out."""
        self._object(request)
        seconds = int((await request.json())["expiresIn"])
        name = f"{request.path_params['bucket']}/{request.path_params['path']}"
        token = sign({"url": name, "iat": int(time()), "exp": int(time()) + seconds}, self._secret)
        return JSONResponse({"signedURL": f"/object/sign/{name}?token={token}"})

    async def signed(self, request: Request) -> Response:
        """The object, for whoever has the token and as long as it is valid."""
        try:
            payload = verify(request.query_params.get("token", ""), self._secret)
        except TokenError as error:
            raise StorageError(400, "InvalidJWT", str(error)) from None
        if payload.get("url") != f"{request.path_params['bucket']}/{request.path_params['path']}":
            raise StorageError(400, "InvalidSignature", "The url does not match the signature")
        return _content(self._object(request))

    async def download(self, request: Request) -> Response:
        """The object, for holders of a key."""
        return _content(self._object(request))

    async def public(self, request: Request) -> Response:
        """The object, for everybody, if the bucket is public."""
        if request.path_params["bucket"] not in self._public:
            raise StorageError(404, "Bucket not found", "Bucket not found")
        return _content(self._object(request))

    async def info(self, request: Request) -> Response:
        """What is known about an object."""
        return JSONResponse(_described(request.path_params["path"], self._object(request)))

    async def list_objects(self, request: Request) -> Response:
        """Objects below a folder, as a flat list of names relative to it."""
        prefix = (await request.json()).get("prefix", "").strip("/")
        start = f"{prefix}/" if prefix else ""
        names = sorted(name for name in self._bucket(request) if name.startswith(start))
        return JSONResponse([_described(name.removeprefix(start), self._bucket(request)[name]) for name in names])

    async def remove(self, request: Request) -> Response:
        """Delete one object (path) or many (`prefixes` in the body)."""
        objects = self._bucket(request)
        if path := request.path_params.get("path"):
            self._object(request)
            del objects[path]
            return JSONResponse({"message": "Successfully deleted"})
        names = [name for name in (await request.json())["prefixes"] if name in objects]
        return JSONResponse([_described(name, objects.pop(name)) for name in names])

    async def create_bucket(self, request: Request) -> Response:
        """A new empty bucket."""
        wanted = await request.json()
        if wanted["id"] in self.buckets:
            raise StorageError(409, "Duplicate", "The resource already exists")
        self.buckets[wanted["id"]] = {}
        if wanted.get("public"):
            self._public.add(wanted["id"])
        return JSONResponse({"name": wanted["id"]})

    async def get_bucket(self, request: Request) -> Response:
        """One bucket."""
        self._bucket(request)
        return JSONResponse(self._bucket_body(request.path_params["bucket"]))

    async def list_buckets(self, request: Request) -> Response:
        """All buckets."""
        return JSONResponse([self._bucket_body(name) for name in self.buckets])

    def _bucket(self, request: Request) -> dict[str, Stored]:
        if (name := request.path_params["bucket"]) not in self.buckets:
            raise StorageError(404, "Bucket not found", "Bucket not found")
        return self.buckets[name]

    def _object(self, request: Request) -> Stored:
        if found := self._bucket(request).get(request.path_params["path"]):
            return found
        raise _not_found()

    def _bucket_body(self, name: str) -> dict[str, Any]:
        moment = "2026-01-01T00:00:00.000Z"
        body = {"id": name, "name": name, "owner": "", "public": name in self._public}
        return {**body, "created_at": moment, "updated_at": moment, "file_size_limit": None, "allowed_mime_types": None}


async def _received(request: Request) -> Stored:
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


def _content(stored: Stored) -> Response:
    headers = {"Cache-Control": stored.cache_control, "ETag": f'"{stored.id}"'}
    return Response(stored.data, headers=headers, media_type=stored.content_type)


def _described(name: str, stored: Stored) -> dict[str, Any]:
    times = {"created_at": stored.created_at.isoformat(), "updated_at": stored.updated_at.isoformat()}
    details = {"size": len(stored.data), "mimetype": stored.content_type, "cacheControl": stored.cache_control}
    return {"id": stored.id, "name": name, **times, "metadata": {**stored.metadata, **details}}


def _not_found() -> StorageError:
    return StorageError(404, "not_found", "Object not found")
