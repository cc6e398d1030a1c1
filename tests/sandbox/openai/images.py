"""An OpenAI-compatible image API: /v1/images/edits composes the given pictures, /v1/models lists the models."""

import asyncio
import base64
import math
import random
import re
from time import time
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.sandbox.control import Commands
from tests.sandbox.faults import Fault, Faults, drop, gone
from tests.sandbox.openai import answers
from tests.sandbox.openai.calls import Call, Calls, Part
from tests.sandbox.openai.rules import MODELS, SHUTDOWN_DATES, model_body, refusal_of
from tests.sandbox.openai.tryon import compose
from tests.sandbox.openai.usage import usage_of


class OpenAIImages:
    """`app` is the ASGI application. Latency is seconds, or median and sigma of a log-normal distribution."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.faults = Faults(answers.KINDS)
        self.calls = Calls()
        self.defaults = {
            **{"latency": 0.0, "limit_per_minute": None, "compose": True, "keep_images": 200},
            # Models with the answer by which they are gone, and with the day that is announced.
            **{"shut_down": {}, "shutdown_dates": SHUTDOWN_DATES},
        }
        self.reset()
        routes = [
            Route("/v1/images/edits", self.edits, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{id}", self.model),
        ]
        self.app = Starlette(routes=routes)
        self.commands: Commands = {
            "reset": self.reset,
            "set": self.set,
            "fault": self.faults.add,
            "clear": self.faults.clear,
            "faults": self.faults.state,
            "calls": lambda since=0: [call.as_json() for call in self.calls.latest if call.number > since],
            "summary": self.calls.summary,
            "lookups": lambda: self._lookups,
        }

    def content(self, path: str) -> bytes | None:
        """Bytes of a received image: calls/<number>/images/<index>."""
        match = re.fullmatch(r"calls/(\d+)/images/(\d+)", path)
        call = self.calls.find(int(match[1])) if match else None
        return call.images[int(match[2])].data if match and call and int(match[2]) < len(call.images) else None

    def reset(self) -> None:
        """Forget faults, calls and settings."""
        self.faults.clear()
        self.calls.reset()
        self._lookups: list[str] = []
        self.settings: dict[str, Any] = {}
        self.set(**self.defaults)

    def set(self, **values: Any) -> None:
        """Change latency (number or {"median", "sigma", "max"}) or another of the defaults."""
        if unknown := set(values) - set(self.defaults):
            raise ValueError(f"unknown setting {', '.join(unknown)}; there are: {', '.join(self.defaults)}")
        self.settings.update(values)
        self.calls.keep_images = self.settings["keep_images"]

    async def edits(self, request: Request) -> Response:
        """One try-on, or the answer of the first matching fault."""
        if request.headers.get("authorization") != f"Bearer {self._key}":
            return answers.real("unauthorized", "")
        async with request.form(max_files=64) as form:
            images = [await _part(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
            fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        model, prompt = fields.pop("model", ""), fields.pop("prompt", "")
        pictures = [part.data or b"" for part in images]  # the record may not keep them
        call = self.calls.begin(model, prompt, fields, dict(request.headers), images)
        try:
            response = await self._answer(request, call, pictures)
        except BaseException:
            self.calls.end(call, None, "aborted")
            raise
        if call.outcome == "running":
            self.calls.end(call, response.status_code, "ok")
        return response

    async def _answer(self, request: Request, call: Call, pictures: list[bytes]) -> Response:
        fault = await self.faults.strike("images/edits", call.prompt, call.model)
        refusal: Response | None
        if fault is None and call.model in self.settings["shut_down"]:
            refusal, outcome = answers.real(self.settings["shut_down"][call.model], call.model), "shut_down"
        elif fault is None:
            refusal, outcome = refusal_of(call, self.settings["limit_per_minute"], self.calls.within(60)), "refused"
        else:
            refuse, outcome = answers.REFUSALS.get(fault.kind), fault.kind
            refusal = refuse(fault, call.model) if refuse else None
        if refusal is not None:
            self.calls.end(call, refusal.status_code, outcome)
            return refusal
        if fault and fault.kind in answers.BROKEN:
            return await self._break(request, call, fault)
        if not await self._work(request):
            self.calls.end(call, None, "client_gone")
            return Response(status_code=499)
        payload = await self._payload(call, pictures)
        if fault:
            self.calls.end(call, 200, fault.kind)
            return answers.spoiled(fault, payload)
        return JSONResponse(payload, headers={"x-request-id": f"req_{call.number}"})

    async def models(self, request: Request) -> Response:
        """All models, with the day of their shutdown."""
        refusal = await self._refuse_lookup(request, "")
        return refusal or JSONResponse({"object": "list", "data": [self._model(name) for name in self._living()]})

    async def model(self, request: Request) -> Response:
        """One model."""
        name = request.path_params["id"]
        self._lookups.append(name)
        if refusal := await self._refuse_lookup(request, name):
            return refusal
        return JSONResponse(self._model(name)) if name in self._living() else answers.real("model_not_found", name)

    async def _refuse_lookup(self, request: Request, model: str) -> Response | None:
        if request.headers.get("authorization") != f"Bearer {self._key}":
            return answers.real("unauthorized", "")
        fault = await self.faults.strike("models", model=model)
        if fault and fault.kind in answers.BROKEN:
            drop(request.scope, fault)
        refuse = answers.REFUSALS.get(fault.kind) if fault else None
        return refuse(fault, model) if fault and refuse else None

    def _living(self) -> list[str]:
        return [name for name in MODELS if name not in self.settings["shut_down"]]

    def _model(self, name: str) -> dict[str, Any]:
        return model_body(name, self.settings["shutdown_dates"].get(name))

    async def _work(self, request: Request) -> bool:
        """Wait for the set latency; False when the client disconnected meanwhile."""
        latency = self.settings["latency"]
        if isinstance(latency, dict):
            drawn = latency["median"] * random.lognormvariate(0, latency.get("sigma", 0.3))
            latency = min(drawn, latency.get("max", math.inf))
        if not latency:
            return True
        left = asyncio.ensure_future(gone(request.receive))
        done, _ = await asyncio.wait([left], timeout=latency)
        left.cancel()
        return not done

    async def _break(self, request: Request, call: Call, fault: Fault) -> Response:
        if fault.kind == "hang":
            await self.faults.hang(request.receive)
        self.calls.end(call, None, fault.kind)
        if fault.kind == "drop_midway":
            return _Midway(request, fault)
        drop(request.scope, fault)
        return Response(status_code=499)

    async def _payload(self, call: Call, pictures: list[bytes]) -> dict[str, Any]:
        output_format = call.parameters.get("output_format", "png")
        size = call.parameters.get("size", "auto")
        size = "1024x1536" if size == "auto" else size
        picture = await asyncio.to_thread(
            compose, pictures if self.settings["compose"] else [], size, output_format, call.model
        )
        return {
            "created": int(time()),
            "background": "opaque",
            "data": [{"b64_json": base64.b64encode(picture).decode()}],
            "output_format": output_format,
            "quality": call.parameters.get("quality", "high"),
            "size": size,
            "usage": usage_of(call, pictures, size),
        }


class _Midway(Response):
    """Announces a long answer, sends some of it and resets the connection."""

    def __init__(self, request: Request, fault: Fault) -> None:
        super().__init__(b'{"created": 1, "data": [{"b64_json": "' + b"A" * 5000, media_type="application/json")
        self._request, self._fault = request, fault
        self.headers["content-length"] = "1000000"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await asyncio.sleep(0.05)
        drop(self._request.scope, self._fault)


async def _part(name: str, upload: UploadFile) -> Part:
    data = await upload.read()
    return Part(name, upload.filename or "", upload.content_type or "", len(data), data)
