"""The part of Supabase Storage that its clients use: buckets, objects in memory, signed URLs that are verified."""

from time import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.sandbox.supabase.storage_objects import StorageError, Stored, content_of, described, not_found, received
from tests.sandbox.supabase.tokens import TokenError, sign, verify


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
            {"bucket": bucket, "versions": stored.versions, **described(name, stored)}
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
            raise not_found()
        new = await received(request)
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
        return content_of(self._object(request))

    async def download(self, request: Request) -> Response:
        """The object, for holders of a key."""
        return content_of(self._object(request))

    async def public(self, request: Request) -> Response:
        """The object, for everybody, if the bucket is public."""
        if request.path_params["bucket"] not in self._public:
            raise StorageError(404, "Bucket not found", "Bucket not found")
        return content_of(self._object(request))

    async def info(self, request: Request) -> Response:
        """What is known about an object."""
        return JSONResponse(described(request.path_params["path"], self._object(request)))

    async def list_objects(self, request: Request) -> Response:
        """Objects below a folder, as a flat list of names relative to it."""
        prefix = (await request.json()).get("prefix", "").strip("/")
        start = f"{prefix}/" if prefix else ""
        names = sorted(name for name in self._bucket(request) if name.startswith(start))
        return JSONResponse([described(name.removeprefix(start), self._bucket(request)[name]) for name in names])

    async def remove(self, request: Request) -> Response:
        """Delete one object (path) or many (`prefixes` in the body)."""
        objects = self._bucket(request)
        if path := request.path_params.get("path"):
            self._object(request)
            del objects[path]
            return JSONResponse({"message": "Successfully deleted"})
        names = [name for name in (await request.json())["prefixes"] if name in objects]
        return JSONResponse([described(name, objects.pop(name)) for name in names])

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
        raise not_found()

    def _bucket_body(self, name: str) -> dict[str, Any]:
        moment = "2026-01-01T00:00:00.000Z"
        body = {"id": name, "name": name, "owner": "", "public": name in self._public}
        return {**body, "created_at": moment, "updated_at": moment, "file_size_limit": None, "allowed_mime_types": None}
