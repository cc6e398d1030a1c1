"""The OpenAPI document: its examples are valid, and what it promises holds for generated requests."""

from typing import Any

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # now: compiled amid Hypothesis, CPython 3.11 miscounts its recursion
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.worker.sizing.conftest import PhotoHost, Service
from worker.sizing.answers import EstimateResponse
from worker.sizing.schemas import EstimateRequest


def test_examples_of_the_document_are_accepted(service: Service) -> None:
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]

    for example in schemas["EstimateRequest"]["examples"]:
        EstimateRequest.model_validate(example)
    for example in schemas["EstimateResponse"]["examples"]:
        EstimateResponse.model_validate(example)


def test_document_states_the_limits_of_loose_clothing_and_every_status(service: Service) -> None:
    document = service.client.get("/openapi.json").json()

    assert "loose clothing overestimates them by 10 cm and more" in document["info"]["description"].replace("\n", " ")
    assert set(document["paths"]["/estimate-body"]["post"]["responses"]) == {
        "200",
        "400",
        "401",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
    }


def test_document_rules_unknown_fields_out(service: Service) -> None:
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]

    assert {name: schemas[name]["additionalProperties"] for name in ("EstimateRequest", "SizeLimits")} == {
        "EstimateRequest": False,
        "SizeLimits": False,
    }


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("path", "method"), [("/estimate-body", "POST"), ("/health", "GET"), ("/ready", "GET")])
def test_every_generated_request_is_answered_as_documented(
    path: str, method: str, mode: GenerationMode, service: Service, photo_host: PhotoHost
) -> None:
    operation = schemathesis.openapi.from_url(f"{service.base}/openapi.json")[path][method]

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    def check(case: schemathesis.Case[Any]) -> None:
        body = case.body
        if isinstance(body, dict) and isinstance(url := body.get("image_url"), str) and url.lower().startswith("http"):
            # Generated hosts would only test the name server; what the fetch makes of URLs has tests of its own.
            body["image_url"] = f"{photo_host.origin}/b000.jpg"
        # A photo that cannot be fetched or measured is documented as 400 and 422; no schema can rule it out.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    if mode is GenerationMode.POSITIVE or method == "POST":
        check()
