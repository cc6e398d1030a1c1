"""The FastAPI application: the size API's router, GET /health and GET /ready; and its OpenAPI document."""

from typing import Any

from fastapi import FastAPI, Response

from worker import __version__
from worker.health import Health
from worker.http.description import DESCRIPTION
from worker.http.errors import answer_errors
from worker.http.requests import RequestMiddleware
from worker.settings import Settings
from worker.sizing import api
from worker.webhooks.description import describe


def create_app(settings: Settings, health: Health) -> FastAPI:
    """The application; `health` is shared with the supervisor, and learns here that the model is loaded."""
    # A body without Content-Type is read as JSON: strictly, it would be refused as "no dictionary".
    app = FastAPI(title="WearOn worker", version=__version__, description=DESCRIPTION, strict_content_type=False)
    app.add_middleware(RequestMiddleware)
    app.include_router(api.create_router(settings, health))
    answer_errors(app)
    describe(app.webhooks)

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def get_health() -> dict[str, Any]:
        """Everything that this container needs, as last seen; always 200."""
        return health.report()

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", responses={503: {"description": "No new work may be sent here."}})
    async def get_ready(response: Response) -> dict[str, bool]:
        """200 while new work may be sent here, 503 otherwise."""
        response.status_code = 200 if health.ready() else 503
        return {"ready": health.ready()}

    return app


def openapi() -> dict[str, Any]:
    """The answer to GET /openapi.json, of which docs/openapi.json is a copy; no setting changes it."""
    nowhere = Settings(
        redis_url="redis://localhost:6379/0",
        supabase_url="https://supabase.example",
        supabase_service_role_key="none",
        openai_api_key="none",
    )
    return create_app(nowhere, Health()).openapi()
