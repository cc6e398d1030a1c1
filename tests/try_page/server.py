"""`GET /try`: the page. `POST /try`: a form with the photos and the facts; answered as the size API does."""

import base64
import threading
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from worker.errors import ImageError
from worker.photos.decode import decode
from worker.sizing.annotate import annotate
from worker.sizing.estimator import estimate
from worker.sizing.measurements import Measurer
from worker.sizing.photo import read
from worker.sizing.pose import Landmarker
from worker.sizing.refusals import PhotoRefused
from worker.sizing.respond import respond
from worker.sizing.schemas import EstimateRequest

PAGE = Path(__file__).with_name("page.html")
SAMPLE = Path(__file__).parents[1] / "sandbox" / "photos" / "pictures" / "body.jpg"
_NUMBERS = ("height_cm", "weight_kg", "age")
#: Stands for a photo that came with the form: the API's own request names it by a URL.
_UPLOADED = "https://upload.invalid/photo"
_one_at_a_time = threading.Lock()


async def page(_: Request) -> Response:
    return FileResponse(PAGE)


async def sample(_: Request) -> Response:
    return FileResponse(SAMPLE)


async def measure(request: Request) -> Response:
    """Answer as POST /estimate-body does; `picture` is the annotated photo as a data URL."""
    async with request.form(max_files=2) as form:
        photos = {name: await file.read() for name, file in form.items() if isinstance(file, UploadFile) and file.size}
        try:
            body = _body(form, photos)
        except ValidationError as error:
            return JSONResponse({"detail": " ".join(map(_sentence, error.errors()))}, 422)
    try:
        return JSONResponse(await run_in_threadpool(_estimate, body, photos))
    except PhotoRefused as error:
        return JSONResponse({"detail": str(error), "reason": error.reason, "hint": error.hint}, 422)
    except ImageError as error:
        return JSONResponse({"detail": str(error)}, 400)


def _body(form: FormData, photos: dict[str, bytes]) -> EstimateRequest:
    given = {name: _value(name, text) for name, text in form.items() if isinstance(text, str) and text}
    urls = {f"{name}_url": _UPLOADED for name in photos}
    return EstimateRequest.model_validate({**given, **urls})


def _value(name: str, text: str) -> str | float:
    try:
        return float(text) if name in _NUMBERS else text
    except ValueError:
        return text  # the request says what it wants instead


def _sentence(problem: Any) -> str:
    name = ".".join(map(str, problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    return f"{name}: {text}" if name else text


def _estimate(body: EstimateRequest, photos: dict[str, bytes]) -> dict[str, Any]:
    data, side = photos.get("image"), photos.get("side_image")
    with _one_at_a_time:
        landmarker, measurer = _models()
        found = estimate(
            read(data) if data else None,
            body.person(),
            body.limits(),
            body.fit or "regular",
            detector=landmarker,
            measurer=measurer,
            side=partial(read, side) if side else None,
        )
    answer = respond(found, "try").model_dump()
    if data and found.silhouette is not None:
        buffer = BytesIO()
        picture = decode(data)
        picture.thumbnail((1024, 1024))
        annotate(picture, found.silhouette, body.height_cm).save(buffer, "JPEG", quality=85)
        answer["picture"] = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return answer


@cache
def _models() -> tuple[Landmarker, Measurer]:
    return Landmarker(), Measurer()


app = Starlette(
    routes=[
        Route("/", RedirectResponse("/try")),
        Route("/try", page),
        Route("/try", measure, methods=["POST"]),
        Route("/try/sample.jpg", sample),
    ]
)
