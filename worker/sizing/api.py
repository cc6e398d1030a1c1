"""The size API: the router of POST /estimate-body."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.exceptions import HTTPException

from worker.health import Health
from worker.logs import get_logger
from worker.photos.fetcher import ImageFetcher
from worker.settings import Settings
from worker.sizing import metrics
from worker.sizing.answers import EstimateResponse, InvalidRequest, Problem, Refusal
from worker.sizing.api_keys import ApiKeys, GivenKey
from worker.sizing.download import download
from worker.sizing.estimator import Estimate, estimate
from worker.sizing.hang_up import unless_gone
from worker.sizing.measurements import Measurer
from worker.sizing.photo import read
from worker.sizing.pool import Pool
from worker.sizing.pose import MODEL_PATH, Detector, ModelUnusable
from worker.sizing.respond import respond
from worker.sizing.schemas import EstimateRequest

log = get_logger(__name__)

PATH = "/estimate-body"
#: Of a request's whole time the download may take this share; the rest is for waiting and measuring.
_FETCH_SHARE = 0.8
#: At once, of up to 10 MiB each: little enough for the container's memory when photo hosts send slowly, and more than
#: nginx lets one client have (worker_estimate_connections).
_DOWNLOADS = 24

_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The picture cannot be fetched, or it is no picture."},
    401: {"model": Problem, "description": "The API key is not known."},
    413: {"model": Problem, "description": "The request body is too large."},
    415: {"model": Problem, "description": "The request body is not sent as JSON."},
    422: {
        "model": Refusal | InvalidRequest,
        "description": "The input is invalid, or the picture cannot be measured (with `reason` and `hint`).",
    },
    429: {"model": Problem, "description": "The API key's limit is used up.", "headers": _RETRY_AFTER},
    500: {"model": Problem, "description": "Anything unexpected."},
    503: {"model": Problem, "description": "Not ready or busy.", "headers": _RETRY_AFTER},
}


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
        delegate=settings.sizing_delegate,
    )
    keys = ApiKeys(settings.sizing_api_keys)
    metrics.watch_pool(lambda: pool.pending, pool.limit)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (_load(pool, health), pool.close_unused_forever())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await pool.close()
            await fetcher.aclose()

    async def admit(key: GivenKey = None) -> None:
        keys.admit(key)

    router = APIRouter(lifespan=lifespan)

    @router.post(PATH, responses=RESPONSES)
    async def estimate_body(
        body: EstimateRequest, request: Request, _: Annotated[None, Depends(admit)]
    ) -> EstimateResponse:
        """Estimate chest, waist, hip and shoulder, and the size that fits."""
        if not pool.loaded:
            metrics.ended("starting")
            raise HTTPException(503, "The service is starting. Please try again.", {"Retry-After": "5"})
        pool.check_free()
        begun = time.monotonic()
        try:
            async with asyncio.timeout(settings.sizing_timeout_seconds):
                found = await unless_gone(request, _estimate(body, fetcher, pool))
        except TimeoutError:
            metrics.ended("timeout")
            raise HTTPException(503, "The service is busy. Please try again.", {"Retry-After": "2"}) from None
        metrics.ended("completed")
        _log(found, begun)
        return respond(found, request.state.request_id)

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


async def _estimate(body: EstimateRequest, fetcher: ImageFetcher, pool: Pool) -> Estimate:
    data, side = None, None
    if body.image_url is not None:
        with metrics.step("fetch"):
            data, side = await download(body.image_url, body.side_image_url, fetcher)

    def measure(detector: Detector, measurer: Measurer) -> Estimate:
        photo = None if data is None else read(data)
        fit = body.fit or "regular"
        return estimate(photo, body.person(), body.limits(), fit, detector=detector, measurer=measurer, side=side)

    return await pool.run(measure)


def _log(found: Estimate, begun: float) -> None:
    log.info(
        "estimate_completed",
        size=found.size,
        confidence=round(found.confidence, 3),
        basis=found.measurements.basis,
        warnings=found.warnings,
        total_ms=round((time.monotonic() - begun) * 1000),
    )
