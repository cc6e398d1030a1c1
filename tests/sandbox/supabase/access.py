"""The keys of a call to the gateway, and the name of the call by which faults choose it."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.sandbox.supabase.storage import StorageError
from tests.sandbox.supabase.tokens import TokenError, api_key, verify

#: The path that needs no key: the token is in the URL.
_SIGNED = "/storage/v1/object/sign/"


def authorize(request: Request, secret: str) -> Response | None:
    """Put the caller's role into the scope, or return the refusal of the keys."""
    path = request.url.path
    if request.method == "GET" and path.startswith(_SIGNED):
        return None
    key = request.headers.get("apikey") or request.query_params.get("apikey")
    if not key:
        hint = "No `apikey` request header or url param was found."
        return JSONResponse({"message": "No API key found in request", "hint": hint}, 401)
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    if bearer and bearer.count(".") != 2:
        return _no_jwt(path, bearer)
    try:
        role = _role(key, secret)
        request.scope["sandbox.role"] = verify(bearer, secret)["role"] if bearer else role
    except (TokenError, KeyError):
        hint = "Double check your Supabase `anon` or `service_role` API key."
        return JSONResponse({"message": "Invalid API key", "hint": hint}, 401)
    writes = request.method != "GET" and path.startswith("/storage/")
    if writes and request.scope["sandbox.role"] != "service_role":
        return StorageError(403, "Unauthorized", "new row violates row-level security policy").answer
    return None


def _role(key: str, secret: str) -> str:
    """The role of a key in `apikey`; for a key that is no JWT the gateway itself makes the token."""
    roles = {api_key("secret", secret): "service_role", api_key("publishable", secret): "anon"}
    if key in roles:
        return roles[key]
    return str(verify(key, secret)["role"])


def _no_jwt(path: str, bearer: str) -> Response:
    """The answer of PostgREST or Storage to a bearer that is no JWT, as an `sb_secret_` key is none."""
    if path.startswith("/storage/"):
        return StorageError(403, "Unauthorized", "Invalid Compact JWS").answer
    message = f"Expected 3 parts in JWT; got {bearer.count('.') + 1}"
    return JSONResponse({"code": "PGRST301", "details": None, "hint": None, "message": message}, 401)


def operation_of(method: str, path: str) -> str:
    """The name by which faults know a request: rpc/<function>, table/<name>, storage/upload ..."""
    parts = path.strip("/").split("/")
    if parts[:2] == ["rest", "v1"]:
        return "/".join(parts[2:4]) if parts[2:3] == ["rpc"] else f"table/{parts[2] if parts[2:] else ''}"
    if parts[:4] == ["storage", "v1", "object", "sign"]:
        return "storage/sign" if method == "POST" else "storage/signed"
    if parts[:4] == ["storage", "v1", "object", "list"] and method == "POST":
        return "storage/list"
    if parts[:3] == ["storage", "v1", "object"]:
        return f"storage/{ {'POST': 'upload', 'DELETE': 'remove'}.get(method, 'download') }"
    return "/".join(parts[0:1] + parts[2:3])
