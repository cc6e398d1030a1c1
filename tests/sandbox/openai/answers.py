"""The answers of OpenAI's image API when it does not give a picture, with the bodies that it really sends."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from PIL import Image
from starlette.responses import JSONResponse, Response

from tests.sandbox.faults import Fault

ANSWERS = Path(__file__).with_name("answers.yml")


def error(
    status: int, message: str, kind: str, code: str | None, *, param: str | None = None, **headers: str
) -> JSONResponse:
    """An error in OpenAI's form."""
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(body, status, headers={"x-request-id": f"req_{uuid4().hex}", **named})


def rate_limited(model: str, retry_after: float | str | None) -> Response:
    """429: too many calls."""
    message = (
        f"Rate limit reached for {model} in organization org-sandbox on input-images per min: "
        "Limit 300, Used 300, Requested 1. Please try again in 1s."
    )
    headers = {} if retry_after is None else {"retry_after": str(retry_after)}
    return error(429, message, "input-images", "rate_limit_exceeded", **headers)


REAL: dict[str, tuple[int, str, str | None, str | None, str]] = {
    name: tuple(answer) for name, answer in yaml.safe_load(ANSWERS.read_text()).items()
}


def real(name: str, model: str) -> Response:
    """An answer of answers.yml."""
    status, kind, code, param, message = REAL[name]
    return error(status, message.format(model=model), kind, code, param=param)


def invalid_request(message: str, param: str) -> Response:
    """400: the request is invalid."""
    return error(400, message, "invalid_request_error", "invalid_value", param=param)


def server_error(status: int) -> Response:
    """5xx; from 502 on the HTML of a gateway or Cloudflare."""
    if status >= 502:
        return Response(f"<html><h1>{status} upstream error</h1></html>", status, media_type="text/html")
    message = "The server had an error while processing your request. Sorry about that!"
    return error(status, message, "server_error", None)


def _status(status: int, message: str = "Sandbox says no.", **headers: object) -> Response:
    return error(status, message, "sandbox_error", None, **{name: str(value) for name, value in headers.items()})


def spoiled(fault: Fault, payload: dict[str, Any]) -> Response:
    """A success with a broken picture, or with odd fields around the picture."""
    item = payload["data"][0]
    text = item["b64_json"]
    picture = base64.b64decode(text)
    spoil: dict[str, Callable[[], object]] = {
        "not_image": lambda: item.update(b64_json=_base64(b"<html>certainly no picture</html>" * 20)),
        "png": lambda: item.update(b64_json=_base64(_png(picture))),
        "truncated": lambda: item.update(b64_json=_base64(picture[: len(picture) // 2])),
        "not_base64": lambda: item.update(b64_json="%%% not base64 %%%"),
        "empty": lambda: payload.update(data=[]),
        "wrapped": lambda: item.update(b64_json=f"data:image/jpeg;base64,{text[:76]}\n{text[76:]}"),
        "as_url": lambda: payload.update(data=[{"url": fault.options["url"]}]),
        "odd_usage": lambda: payload.pop("usage"),
        "odd_fields": lambda: payload.update(fault.options),
    }
    spoil[fault.kind]()
    if fault.kind == "odd_usage" and "usage" in fault.options:
        payload["usage"] = fault.options["usage"]
    return JSONResponse(payload)


#: Kinds that answer instead of a picture; the others need the picture, or break the connection.
REFUSALS: dict[str, Callable[[Fault, str], Response]] = {
    **dict.fromkeys(REAL, lambda fault, model: real(fault.kind, model)),
    "rate_limited": lambda fault, model: rate_limited(model, fault.options.get("retry_after")),
    "server_error": lambda fault, model: server_error(int(fault.options.get("status", 500))),
    "status": lambda fault, model: _status(**fault.options),
    "html": lambda fault, model: Response("<html></html>", fault.options.get("status", 200), media_type="text/html"),
    "error_in_success": lambda fault, model: JSONResponse({"error": fault.options["error"]}),
    "garbage": lambda fault, model: Response(b'{"data": [{"b64_', media_type="application/json"),
}
SPOILED = frozenset(
    {"not_image", "not_base64", "empty", "png", "truncated", "wrapped", "as_url", "odd_usage", "odd_fields"}
)
BROKEN = frozenset({"drop", "drop_midway", "hang"})
KINDS = frozenset(REFUSALS) | SPOILED | BROKEN


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _png(picture: bytes) -> bytes:
    output = io.BytesIO()
    Image.open(io.BytesIO(picture)).save(output, "PNG", compress_level=1)
    return output.getvalue()
