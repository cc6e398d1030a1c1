"""The answers to what the size API raises, and to what FastAPI refuses before."""

from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from worker.errors import ImageError
from worker.logs import get_logger
from worker.sizing import metrics
from worker.sizing.pool import Saturated
from worker.sizing.refusals import PhotoRefused
from worker.sizing.schemas import EstimateRequest, SizeLimits

log = get_logger(__name__)

#: Problems of one invalid request that its answer names.
_PROBLEMS = 20
#: Stands in `loc` for the name of an unknown field: names are the sender's text, and may be private.
UNKNOWN = "(unknown)"
_KNOWN = frozenset({"body", "[key]", *EstimateRequest.model_fields, *SizeLimits.model_fields})


def answer_errors(app: FastAPI) -> None:
    """Answer and count what the routes raise, and what FastAPI refuses before."""

    @app.exception_handler(ImageError)
    async def image_error(_: Request, error: ImageError) -> JSONResponse:
        metrics.ended("unusable", error.reason)
        log.info("picture_unusable", reason=error.reason, error=str(error))
        return JSONResponse({"detail": str(error)}, 400)

    @app.exception_handler(PhotoRefused)
    async def refused(_: Request, error: PhotoRefused) -> JSONResponse:
        metrics.ended("refused", error.reason)
        log.info("picture_refused", reason=error.reason)
        return JSONResponse({"detail": str(error), "reason": error.reason, "hint": error.hint}, 422)

    @app.exception_handler(Saturated)
    async def saturated(_: Request, error: Saturated) -> JSONResponse:
        metrics.ended("saturated")
        return JSONResponse({"detail": str(error)}, 503, {"Retry-After": str(error.retry_after)})

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        metrics.ended("invalid")
        return JSONResponse({"detail": [_problem(item, error.body) for item in error.errors()[:_PROBLEMS]]}, 422)

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:
            metrics.ended("invalid")
            # FastAPI's word for a body that no JSON parser survives (huge numbers, deep nesting).
            found = {"loc": ["body"], "msg": "The body is no JSON object that can be read.", "type": "json_invalid"}
            return JSONResponse({"detail": [found]}, 422)
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def _problem(item: dict[str, Any], body: object) -> dict[str, Any]:
    """One validation error without its input, which may be no JSON value (NaN), very long, or private."""
    message = item["msg"]
    if item["type"] == "extra_forbidden":
        known = SizeLimits.model_fields if "size_chart" in item["loc"] else EstimateRequest.model_fields
        near = get_close_matches(str(item["loc"][-1])[:40].lower(), known, 1)
        message = f"Unknown field; did you mean {near[0]}?" if near else f"Unknown field; known are {', '.join(known)}."
    return {"loc": _place(item["loc"], body), "msg": message, "type": item["type"]}


def _place(loc: tuple[int | str, ...], body: object) -> list[int | str]:
    """The path to the field: known names, positions of sizes in the chart, and UNKNOWN."""
    found: list[int | str] = []
    for part in loc:
        if found[-1:] == ["size_chart"]:
            chart = body.get("size_chart") if isinstance(body, dict) else None
            names = list(chart) if isinstance(chart, dict) else []
            found.append(names.index(part) if part in names else UNKNOWN)
        else:
            found.append(part if isinstance(part, int) or part in _KNOWN else UNKNOWN)
    return found
