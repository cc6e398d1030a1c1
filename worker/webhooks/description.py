"""The callbacks in the API's OpenAPI document, for partners who generate code from it."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field


class _Extensible(BaseModel):
    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})


class CallbackData(_Extensible):
    """The session's end. Fields may be added."""

    session_id: UUID
    request_id: str | None = Field(description="The X-Request-Id of the try-on.")
    status: Literal["completed", "failed"]
    image_url: str | None = Field(
        description="The picture, for six hours from its making; null for failures and once it has expired."
    )
    error_message: str | None = Field(description="The sentence for the shopper.")
    reason: str | None = Field(description="The word for it, as in the worker's metrics.")
    processing_time_ms: int | None


class Callback(_Extensible):
    """The body of every callback but the test."""

    type: Literal["generation_completed", "generation_failed", "generation_moderation_blocked", "credit_refunded"]
    timestamp: datetime = Field(description="When it happened; later attempts carry the same.")
    data: CallbackData


class TestData(_Extensible):
    """No session: the store alone."""

    store_id: UUID


class TestCallback(_Extensible):
    """The body of a test by an operator."""

    type: Literal["webhook_test"]
    timestamp: datetime
    data: TestData


_RESPONSES: dict[int | str, dict[str, str]] = {
    200: {"description": "Taken. Any 2xx will do; the answer's body is not read."},
    410: {"description": "Send no more: the endpoint is disabled."},
}
_SUMMARIES = {
    "generation_completed": "A try-on has its picture.",
    "generation_failed": "A try-on has failed.",
    "generation_moderation_blocked": "A try-on's photos did not pass the content check.",
    "credit_refunded": "The credit of a failed try-on went back.",
    "webhook_test": "An operator tests the endpoint.",
}


def describe(webhooks: APIRouter) -> None:
    """Add each type of event, with the headers of Standard Webhooks in its description."""
    for name, summary in _SUMMARIES.items():
        webhooks.add_api_route(
            name,
            _take_test if name == "webhook_test" else _take,
            methods=["POST"],
            summary=summary,
            operation_id=name,
            responses=_RESPONSES,
            description="Signed by Standard Webhooks: `webhook-id` (the same over all attempts), `webhook-timestamp`, "
            "`webhook-signature`. Up to 8 attempts within 24 hours; a session's events come in their order.",
        )


def _take(body: Callback) -> None:
    """Stand for the partner's endpoint."""


def _take_test(body: TestCallback) -> None:
    """Stand for the endpoint that an operator tests."""
