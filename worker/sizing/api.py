"""The size API: the router of POST /estimate-body, and the answers to its errors."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from worker.errors import ImageError
from worker.health import Health
from worker.logs import get_logger
from worker.photos.fetcher import ImageFetcher
from worker.settings import Settings
from worker.sizing import metrics
from worker.sizing.estimator import Estimate, Person, estimate
from worker.sizing.measurements import GIRTHS, Measurer
from worker.sizing.photo import read
from worker.sizing.pool import Pool, Saturated
from worker.sizing.pose import MODEL_PATH, Detector, ModelUnusable
from worker.sizing.refusals import PhotoRefused
from worker.sizing.schemas import (
    EstimateRequest,
    EstimateResponse,
    GirthsCm,
    InvalidRequest,
    Problem,
    Refusal,
    SizeRange,
)

log = get_logger(__name__)

PATH = "/estimate-body"
#: Of a request's whole time the download may take this share; the rest is for waiting and measuring.
_FETCH_SHARE = 0.8
#: At once, of up to 10 MiB each: little enough for the container's memory when photo hosts send slowly, and more than
#: nginx lets one client have (worker_estimate_connections).
_DOWNLOADS = 24
#: Of an invalid request so many problems are named, each by so much of its field's name.
_PROBLEMS = 20
_NAME_CHARACTERS = 100

DESCRIPTION = """Clothing size from one photo and the stated height.

**Limits.** The girths are read from the outline of the body in a frontal view. They hold for tight clothing:
loose clothing overestimates them by 10 cm and more. `uncertainty_cm` and `confidence` say how sure the answer is, and
`warnings` what makes it less sure: `loose_clothing` (the torso is wider than limbs and head let expect; the intervals
grow, but loose clothing cannot always be told), `arms_touch_torso` (arms hide part of the outline), `unusual_outline`
(unlike the bodies that the model was fitted on), `beyond_chart` (larger than the largest size). Nothing of the photo is
stored.

**Size.** `recommended_size` is the smallest size whose limits hold, by chest in the default chart (XS 84, S 92, M 100,
L 108, XL 116 cm, else XXL). `body_type` is `broad` from a waist of 0.53 of the height, else `athletic` from a chest of
1.22 times the waist, else `slim` below a waist of 0.42 of the height, else `average`.
"""


def create_router(settings: Settings, health: Health) -> APIRouter:
    """The route with its downloads and its pool; `health` learns here that the model is loaded."""
    fetcher = ImageFetcher(
        trusted_origins=settings.trusted_origins,
        max_bytes=settings.image_max_bytes,
        timeout_seconds=min(settings.fetch_timeout_seconds, settings.sizing_timeout_seconds * _FETCH_SHARE),
        downloads=_DOWNLOADS,
    )
    pool = Pool(
        threads=settings.sizing_threads,
        queue=settings.sizing_queue,
        model_path=settings.pose_model_path or MODEL_PATH,
    )
    metrics.watch_pool(lambda: pool.pending, pool.limit)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(pool, health))
        try:
            yield
        finally:
            loading.cancel()
            await pool.close()
            await fetcher.aclose()

    router = APIRouter(lifespan=lifespan)

    @router.post(
        PATH,
        responses={
            400: {"model": Problem, "description": "The picture cannot be fetched, or it is no picture."},
            413: {"model": Problem, "description": "The request body is too large."},
            422: {
                "model": Refusal | InvalidRequest,
                "description": "The input is invalid, or the picture cannot be measured (with `reason` and `hint`).",
            },
            500: {"model": Problem, "description": "Anything unexpected."},
            503: {
                "model": Problem,
                "description": "Not ready or busy.",
                "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
            },
        },
    )
    async def estimate_body(body: EstimateRequest, request: Request) -> EstimateResponse:
        """Estimate chest, waist, hip and shoulder, and the size that fits."""
        begun = time.monotonic()
        if not pool.loaded:
            metrics.ended("starting")
            raise HTTPException(503, "The service is starting. Please try again.", {"Retry-After": "5"})
        pool.check_free()
        try:
            async with asyncio.timeout(settings.sizing_timeout_seconds):
                with metrics.step("fetch"):
                    data = await fetcher.fetch(body.image_url)
                fetched = time.monotonic()
                found = await pool.run(lambda detector, measurer: _measure(data, body, detector, measurer))
        except TimeoutError:
            metrics.ended("timeout")
            raise HTTPException(503, "The service is busy. Please try again.", {"Retry-After": "2"}) from None
        metrics.ended("completed")
        log.info(
            "estimate_completed",
            size=found.size,
            confidence=round(found.confidence, 3),
            warnings=found.warnings,
            fetch_ms=round((fetched - begun) * 1000),
            total_ms=round((time.monotonic() - begun) * 1000),
        )
        return _respond(found, request.state.request_id)

    return router


async def _load(pool: Pool, health: Health) -> None:
    begun = time.monotonic()
    try:
        await pool.load()
    except ModelUnusable as error:
        log.critical("pose_model_unusable", error=str(error))
    except Exception:
        log.critical("pose_model_failed", exc_info=True)
    else:
        health.model_loaded = True
        log.info("pose_model_loaded", seconds=round(time.monotonic() - begun, 2))


def _measure(data: bytes, body: EstimateRequest, detector: Detector, measurer: Measurer) -> Estimate:
    person = Person(body.height_cm, body.weight_kg, body.sex)
    return estimate(read(data), person, body.chart(), body.fit, detector=detector, measurer=measurer)


def _respond(found: Estimate, request_id: str) -> EstimateResponse:
    girths = {name: getattr(found.measurements, name) for name in GIRTHS}
    return EstimateResponse(
        recommended_size=found.size,
        measurements=GirthsCm(**{f"{name}_cm": round(girth.value, 1) for name, girth in girths.items()}),
        confidence=round(found.confidence, 3),
        body_type=found.body_type,
        size_range=SizeRange(lower=found.lower, upper=found.upper),
        uncertainty_cm=GirthsCm(**{f"{name}_cm": round(girth.uncertainty, 1) for name, girth in girths.items()}),
        warnings=found.warnings,
        request_id=request_id,
    )


def answer_errors(app: FastAPI) -> None:
    """Answer and count what the route raises, and what FastAPI refuses before."""

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
        # Never the input: it may be no valid JSON value (NaN), very long, or private.
        # Names of fields are the sender's, too: bounded in number and length.
        found = [
            {"loc": [_short(part) for part in item["loc"]], "msg": item["msg"], "type": item["type"]}
            for item in error.errors()[:_PROBLEMS]
        ]
        return JSONResponse({"detail": found}, 422)

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:
            metrics.ended("invalid")
            # FastAPI's word for a body that no JSON parser survives (huge numbers, deep nesting).
            found = {"loc": ["body"], "msg": "The body is no JSON object that can be read.", "type": "json_invalid"}
            return JSONResponse({"detail": [found]}, 422)
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def _short(part: int | str) -> int | str:
    return part[:_NAME_CHARACTERS] if isinstance(part, str) else part
