"""The refusals and failures of Supabase, word for word; each is a kind of fault."""

from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, Response

_HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>cloudflare</body></html>"


def _rest(code: str, message: str, details: str | None = None) -> dict[str, Any]:
    return {"code": code, "details": details, "hint": None, "message": message}


def _storage(status: int, error: str, message: str) -> dict[str, Any]:
    return {"statusCode": str(status), "error": error, "message": message}


_RESTRICTED = "Service for this project is restricted due to the following violations: exceed_storage_size_quota."

#: HTTP status and body. Storage answers 400 to nearly everything and puts the status that it means into the body.
ANSWERS: dict[str, tuple[int, dict[str, Any]]] = {
    "project_paused": (540, {"message": "Project paused"}),
    "project_restricted": (402, {"message": _RESTRICTED}),
    "too_many_requests": (429, {"message": "API rate limit exceeded"}),
    "database_unreachable": (503, _rest("PGRST000", "Database connection error. Retrying the connection.")),
    "schema_unreadable": (503, _rest("PGRST002", "Could not query the database for the schema cache. Retrying.")),
    "schema_stale": (404, _rest("PGRST202", "Could not find the function in the schema cache")),
    "pool_exhausted": (504, _rest("PGRST003", "Timed out acquiring connection from connection pool.")),
    "statement_timeout": (500, _rest("57014", "canceling statement due to statement timeout")),
    "bucket_gone": (400, _storage(404, "Bucket not found", "Bucket not found")),
    "policy_refused": (400, _storage(403, "Unauthorized", "new row violates row-level security policy")),
    "signature_refused": (400, _storage(403, "Unauthorized", "signature verification failed")),
    "type_refused": (400, _storage(415, "invalid_mime_type", "mime type image/jpeg is not supported")),
    "object_too_large": (400, _storage(413, "Payload too large", "The object exceeded the maximum allowed size")),
    "storage_locked": (400, _storage(423, "ResourceLocked", "The resource is locked")),
    "storage_slow_down": (400, _storage(503, "SlowDown", "Please reduce your request rate")),
    "storage_database_timeout": (544, _storage(544, "DatabaseTimeout", "The connection to the database timed out")),
}


def answer(kind: str, options: dict[str, Any]) -> Response:
    """The answer of a fault; `unavailable` speaks as the gateway does, or in HTML as Cloudflare before it."""
    if kind in ANSWERS:
        status, body = ANSWERS[kind]
        return JSONResponse(body, status)
    status = options.get("status", 503)
    if options.get("html"):
        return HTMLResponse(_HTML.format(status), status)
    return JSONResponse({"message": "upstream connect error or disconnect/reset before headers"}, status)
