"""The answers of OpenAI's image API when it does not give a picture, with the bodies that it really sends."""

import base64
import io
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from PIL import Image
from starlette.responses import JSONResponse, Response

from tests.sandbox.faults import Fault


def error(
    status: int, message: str, kind: str, code: str | None, *, param: str | None = None, **headers: str
) -> JSONResponse:
    """An error in OpenAI's form."""
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(body, status, headers={"x-request-id": f"req_{uuid4().hex}", **named})


def rate_limited(model: str, retry_after: float | str | None = None) -> Response:
    """429: too many calls."""
    message = (
        f"Rate limit reached for {model} in organization org-sandbox on input-images per min: "
        "Limit 300, Used 300, Requested 1. Please try again in 1s."
    )
    headers = {} if retry_after is None else {"retry_after": str(retry_after)}
    return error(429, message, "input-images", "rate_limit_exceeded", **headers)


def insufficient_quota() -> Response:
    """429: no money left; waiting does not help."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return error(429, message, "insufficient_quota", "insufficient_quota")


def moderation_blocked() -> Response:
    """400: the safety system refused."""
    message = (
        "Your request was rejected by the safety system. If you believe this is an error, contact us at "
        f"help.openai.com and include the request ID req_{uuid4().hex}. safety_violations=[sexual]."
    )
    return error(400, message, "image_generation_user_error", "moderation_blocked")


def model_not_found(model: str) -> Response:
    """404: the model was shut down or never was."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return error(404, message, "invalid_request_error", "model_not_found")


def unauthorized() -> Response:
    """401: a wrong key."""
    return error(401, "Incorrect API key provided: sk-sa***box.", "invalid_request_error", "invalid_api_key")


def invalid_request(message: str, param: str | None = None, code: str | None = "invalid_value") -> Response:
    """400: something about the request is wrong."""
    return error(400, message, "invalid_request_error", code, param=param)


def server_error(status: int = 500) -> Response:
    """5xx; from 502 on it is a gateway that answers, with HTML."""
    if status in (502, 503, 504):
        return Response(f"<html><h1>{status} upstream error</h1></html>", status, media_type="text/html")
    message = "The server had an error while processing your request. Sorry about that!"
    return error(status, message, "server_error", None)


def spoiled(kind: str, payload: dict[str, Any]) -> Response:
    """A success that is none: the picture is missing, is none, or breaks off."""
    picture = base64.b64decode(payload["data"][0]["b64_json"])
    spoil: dict[str, Callable[[], bytes]] = {
        "not_image": lambda: b"<html>certainly no picture</html>" * 20,
        "png": lambda: _png(picture),
        "truncated": lambda: picture[: len(picture) // 2],
    }
    if kind == "not_base64":
        payload["data"][0]["b64_json"] = "%%% not base64 %%%"
    elif kind == "empty":
        payload["data"] = []
    else:
        payload["data"][0]["b64_json"] = base64.b64encode(spoil[kind]()).decode()
    return JSONResponse(payload)


#: Kinds that answer instead of a picture; the others need the picture, or break the connection.
REFUSALS: dict[str, Callable[[Fault, str], Response]] = {
    "rate_limited": lambda fault, model: rate_limited(model, fault.options.get("retry_after")),
    "insufficient_quota": lambda fault, model: insufficient_quota(),
    "moderation_blocked": lambda fault, model: moderation_blocked(),
    "model_not_found": lambda fault, model: model_not_found(model),
    "unauthorized": lambda fault, model: unauthorized(),
    "invalid_request": lambda fault, model: invalid_request("Invalid value: 'sandbox'.", "prompt"),
    "server_error": lambda fault, model: server_error(int(fault.options.get("status", 500))),
    "status": lambda fault, model: error(int(fault.options["status"]), "Sandbox says no.", "sandbox_error", None),
    "garbage": lambda fault, model: Response(b'{"data": [{"b64_', media_type="application/json"),
}
SPOILED = frozenset({"not_image", "not_base64", "empty", "png", "truncated"})
BROKEN = frozenset({"drop", "drop_midway", "hang"})
KINDS = frozenset(REFUSALS) | SPOILED | BROKEN


def _png(picture: bytes) -> bytes:
    output = io.BytesIO()
    Image.open(io.BytesIO(picture)).save(output, "PNG", compress_level=1)
    return output.getvalue()
