"""The part of Supabase Storage that the worker calls: objects in memory and signed URLs that are verified."""

import uuid
from dataclasses import dataclass
from time import time
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.sandbox.supabase.tokens import TokenError, sign, verify


class StorageError(Exception):
    """Supabase Storage answers 400 to nearly everything and puts the real status into the body."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.answer = JSONResponse({"statusCode": str(status), "error": error, "message": message}, 400)


@dataclass(frozen=True)
class Stored:
    """One object of a bucket; `versions` counts the uploads to its path."""

    data: bytes
    content_type: str
    versions: int


class Storage:
    """Endpoints under /storage/v1."""

    def __init__(self, secret: str, buckets: list[str]) -> None:
        self._secret = secret
        self._names = buckets
        self.reset()
        path = "/{bucket}/{path:path}"
        self.routes = [
            Route("/bucket", self.create, methods=["POST"]),
            Route("/bucket/{bucket}", self.describe, methods=["GET"]),
            Route(f"/object/sign{path}", self.sign, methods=["POST"]),
            Route(f"/object/sign{path}", self.signed, methods=["GET"]),
            Route("/object/{bucket}", self.remove, methods=["DELETE"]),
            Route(f"/object{path}", self.upload, methods=["POST"]),
            Route(f"/object{path}", self.download, methods=["GET"]),
        ]

    def reset(self) -> None:
        """Empty the buckets."""
        self.buckets: dict[str, dict[str, Stored]] = {name: {} for name in self._names}

    def summary(self) -> list[dict[str, Any]]:
        """All objects without their bytes, for tests."""
        return [
            {
                **{"bucket": bucket, "path": path, "size": len(stored.data)},
                **{"content_type": stored.content_type, "versions": stored.versions},
            }
            for bucket, objects in self.buckets.items()
            for path, stored in objects.items()
        ]

    async def upload(self, request: Request) -> Response:
        """Store the file of a form as storage3 sends it; an object is replaced only with x-upsert."""
        objects, path = self._bucket(request), request.path_params["path"]
        old = objects.get(path)
        if old and request.headers.get("x-upsert") != "true":
            raise StorageError(409, "Duplicate", "The resource already exists")
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise StorageError(400, "InvalidRequest", "No content provided")
            versions = old.versions + 1 if old else 1
            objects[path] = Stored(await file.read(), file.content_type or "application/octet-stream", versions)
        return JSONResponse({"Key": _name(request), "Id": str(uuid.uuid4())})

    async def sign(self, request: Request) -> Response:
        """A relative URL with a token that expires."""
        self._object(request)
        seconds = int((await request.json())["expiresIn"])
        token = sign({"url": _name(request), "iat": int(time()), "exp": int(time()) + seconds}, self._secret)
        return JSONResponse({"signedURL": f"/object/sign/{_name(request)}?token={token}"})

    async def signed(self, request: Request) -> Response:
        """The object, for a valid token."""
        try:
            payload = verify(request.query_params.get("token", ""), self._secret)
        except TokenError as error:
            raise StorageError(400, "InvalidJWT", str(error)) from None
        if payload.get("url") != _name(request):
            raise StorageError(400, "InvalidSignature", "The url does not match the signature")
        return await self.download(request)

    async def download(self, request: Request) -> Response:
        """The object, for holders of a key."""
        stored = self._object(request)
        return Response(stored.data, media_type=stored.content_type)

    async def remove(self, request: Request) -> Response:
        """Delete the objects that `prefixes` in the body names."""
        objects = self._bucket(request)
        names = [name for name in (await request.json())["prefixes"] if objects.pop(name, None)]
        return JSONResponse([{"name": name} for name in names])

    async def create(self, request: Request) -> Response:
        """Create an empty bucket, unless it is there."""
        name = (await request.json())["id"]
        self.buckets.setdefault(name, {})
        return JSONResponse({"name": name})

    async def describe(self, request: Request) -> Response:
        """The settings of a bucket."""
        self._bucket(request)
        name = request.path_params["bucket"]
        return JSONResponse(
            {"id": name, "name": name, "public": False, "file_size_limit": None, "allowed_mime_types": None}
        )

    def _bucket(self, request: Request) -> dict[str, Stored]:
        if (name := request.path_params["bucket"]) not in self.buckets:
            raise StorageError(404, "Bucket not found", "Bucket not found")
        return self.buckets[name]

    def _object(self, request: Request) -> Stored:
        if found := self._bucket(request).get(request.path_params["path"]):
            return found
        raise StorageError(404, "not_found", "Object not found")


def _name(request: Request) -> str:
    return f"{request.path_params['bucket']}/{request.path_params['path']}"
