"""FastAPI application: the size API and the container's health."""

from typing import Any

from fastapi import FastAPI, Response

from worker.health import Health
from worker.settings import Settings


def create_app(settings: Settings, health: Health) -> FastAPI:
    """The application; `health` is shared with the supervisor."""
    app = FastAPI(title="WearOn worker")
    health.model_loaded = True

    @app.get("/health")
    async def get_health() -> dict[str, Any]:
        return health.report()

    @app.get("/ready")
    async def get_ready(response: Response) -> dict[str, bool]:
        response.status_code = 200 if health.ready() else 503
        return {"ready": health.ready()}

    return app
