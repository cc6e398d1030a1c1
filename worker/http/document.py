"""The OpenAPI document of the HTTP side, made without a running worker: docs/openapi.json is a copy of it."""

from typing import Any

from worker.health import Health
from worker.http.app import create_app
from worker.settings import Settings


def openapi() -> dict[str, Any]:
    """The answer to GET /openapi.json; no setting changes it."""
    nowhere = Settings(
        redis_url="redis://localhost:6379/0",
        supabase_url="https://supabase.example",
        supabase_service_role_key="none",
        openai_api_key="none",
    )
    return create_app(nowhere, Health()).openapi()
