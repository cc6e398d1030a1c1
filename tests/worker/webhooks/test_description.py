"""The OpenAPI document's webhooks, held against what the SQL functions and the sender make."""

import json
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from fastapi import FastAPI

from tests.sandbox import Sandbox
from tests.worker.webhooks.world import complete, endpoint, fail
from worker.cli.webhook import TYPES
from worker.webhooks.description import describe
from worker.webhooks.endpoints import TEST
from worker.webhooks.outbox import Delivery
from worker.webhooks.sender import Event


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app = FastAPI()
    describe(app.webhooks)
    return app.openapi()


def test_every_type_is_described_in_openapi_3_1(document: dict[str, Any], sandbox: Sandbox) -> None:
    assert document["openapi"].startswith("3.1")
    assert set(TYPES) == set(sandbox.database.value("select wearon_webhook_types()"))
    assert set(document["webhooks"]) == {*TYPES, TEST}


@pytest.mark.parametrize("end", [complete, fail], ids=["complete", "fail"])
def test_the_bodies_are_as_described(document: dict[str, Any], sandbox: Sandbox, end: Any) -> None:
    store, _ = endpoint(sandbox, "https://partner.example/")
    end(sandbox, store)
    taken = sandbox.database.value("select wearon_webhook_claim(gen_random_uuid(), 9, 9, 60)")["deliveries"]
    delivery = Delivery.model_validate(taken[0])
    validate(document, Event(delivery.event_id, delivery.type, delivery.occurred_at, delivery.data))


def test_the_body_of_a_test_is_as_described(document: dict[str, Any]) -> None:
    validate(document, Event(str(uuid4()), TEST, "2026-11-27T10:00:00+00:00", {"store_id": str(uuid4())}))


def validate(document: dict[str, Any], event: Event) -> None:
    """Hold the body against the schema of its type, as code that was generated from the document does."""
    content = document["webhooks"][event.type]["post"]["requestBody"]["content"]["application/json"]
    schema = {**content["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(json.loads(event.body()))
