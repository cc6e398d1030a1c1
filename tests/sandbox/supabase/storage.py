"""The part of Supabase Storage that the worker calls: objects in memory and signed URLs that are verified."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.sandbox.supabase.listing import Names
from tests.sandbox.supabase.tokens import TokenError, sign, verify

#: Names in one removal, as the server limits them.
_REMOVED_AT_ONCE = 1000
#: A larger page is cut to this, without a word.
_LISTED_AT_ONCE = 1500


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
    #: Seconds since 1970; a replaced object keeps it.
    created_at: float

    def row(self, name: str) -> dict[str, Any]:
        """The object as answers name it."""
        created = datetime.fromtimestamp(self.created_at, UTC).isoformat(timespec="milliseconds")
        moments = dict.fromkeys(("updated_at", "created_at", "last_accessed_at"), created.replace("+00:00", "Z"))
        metadata = {"size": len(self.data), "mimetype": self.content_type, "cacheControl": "max-age=3600"}
        return {"name": name, "id": str(uuid.uuid4()), **moments, "metadata": metadata}


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
            Route("/object/list/{bucket}", self.list_folder, methods=["POST"]),
            Route(f"/object{path}", self.upload, methods=["POST"]),
            Route(f"/object{path}", self.download, methods=["GET"]),
        ]

    def reset(self) -> None:
        """Empty the buckets."""
        self.buckets: dict[str, dict[str, Stored]] = {name: {} for name in self._names}
        self._sorted: dict[str, Names] = {}

    def plant(self, bucket: str, objects: list[tuple[str, float, int]]) -> None:
        """Store many objects at once: name, age in seconds and size of each."""
        data = {size: bytes(size) for _, _, size in objects}
        now = time()
        self.buckets[bucket] |= {name: Stored(data[size], "image/jpeg", 1, now - age) for name, age, size in objects}
        self._sorted.pop(bucket, None)

    def paths(self, bucket: str) -> list[str]:
        """The names of all objects."""
        return list(self.buckets[bucket])

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
            versions, created_at = (old.versions + 1, old.created_at) if old else (1, time())
            content_type = file.content_type or "application/octet-stream"
            objects[path] = Stored(await file.read(), content_type, versions, created_at)
            self._known(request).add(path)
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

    async def list_folder(self, request: Request) -> Response:
        """One page of one folder: its objects, and the folders in it with null for everything but the name."""
        objects, body = self._bucket(request), await request.json()
        prefix, limit, offset = body.get("prefix"), body.get("limit", 100), body.get("offset", 0)
        if not isinstance(prefix, str):
            raise StorageError(400, "Error", "body must have required property 'prefix'")
        if limit < 1 or offset < 0:
            raise StorageError(400, "Error", "body/limit must be >= 1, body/offset must be >= 0")
        if body.get("sortBy", {}).get("column", "name") != "name" or body.get("search"):
            raise StorageError(501, "NotImplemented", "the sandbox lists by name, without search")
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        nothing = dict.fromkeys(("id", "updated_at", "created_at", "last_accessed_at", "metadata"))
        return JSONResponse(
            [
                {"name": shown, **nothing} if name is None else objects[name].row(shown)
                for shown, name in self._known(request).page(prefix, min(limit, _LISTED_AT_ONCE), offset)
            ]
        )

    async def remove(self, request: Request) -> Response:
        """Delete the objects that `prefixes` in the body names, and answer what was there."""
        objects, names = self._bucket(request), (await request.json()).get("prefixes")
        if not names:
            raise StorageError(400, "Error", "body/prefixes must NOT have fewer than 1 items")
        if len(names) > _REMOVED_AT_ONCE:
            raise StorageError(400, "Error", f"body/prefixes must NOT have more than {_REMOVED_AT_ONCE} items")
        if request.scope.get("sandbox.partial"):
            names = names[::2]
        removed = [(name, stored) for name in dict.fromkeys(names) if (stored := objects.pop(name, None))]
        self._known(request).remove([name for name, _ in removed])
        return JSONResponse([{"bucket_id": request.path_params["bucket"], **it.row(name)} for name, it in removed])

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

    def _known(self, request: Request) -> Names:
        name = request.path_params["bucket"]
        if name not in self._sorted:
            self._sorted[name] = Names(self.buckets[name])
        return self._sorted[name]

    def _object(self, request: Request) -> Stored:
        if found := self._bucket(request).get(request.path_params["path"]):
            return found
        raise StorageError(404, "not_found", "Object not found")


def _name(request: Request) -> str:
    return f"{request.path_params['bucket']}/{request.path_params['path']}"
