"""API keys: unknown ones are refused, known ones have limits of their own, none is logged."""

import logging
from hashlib import sha256

import pytest
from starlette.exceptions import HTTPException

from tests.worker.sizing.conftest import PhotoHost, serving
from worker.settings.values import ApiKey
from worker.sizing.api_keys import ApiKeys

KEY = "0f" * 32


def known(per_minute: int) -> dict[str, ApiKey]:
    """The settings of two clients; KEY is the second one's."""
    digests = {"shop": sha256(b"another").hexdigest(), "app": sha256(KEY.encode()).hexdigest()}
    return {name: ApiKey(sha256=digest, per_minute=per_minute) for name, digest in digests.items()}


def test_key_has_a_rate_of_its_own_and_recovers() -> None:
    now = 0.0
    keys = ApiKeys(known(60), lambda: now)

    for _ in range(10):
        keys.admit(KEY)
    with pytest.raises(HTTPException) as refused:
        keys.admit(KEY)
    keys.admit("another")
    now += 1
    keys.admit(KEY)

    assert (refused.value.status_code, refused.value.headers) == (429, {"Retry-After": "1"})


@pytest.mark.parametrize("given", ["", "wrong", KEY[:-1], KEY.upper(), "ü\udcff"])
def test_unknown_key_is_refused(given: str) -> None:
    with pytest.raises(HTTPException) as refused:
        ApiKeys(known(60)).admit(given)

    assert refused.value.status_code == 401


def test_without_keys_in_the_settings_any_key_is_ignored() -> None:
    ApiKeys({}).admit("anything")


def test_service_tells_keys_apart_and_never_logs_them(photo_host: PhotoHost, caplog: pytest.LogCaptureFixture) -> None:
    facts = {"height_cm": 178, "weight_kg": 74}
    with caplog.at_level(logging.DEBUG), serving(photo_host, sizing_api_keys=known(6)) as running:
        asked = [
            running.client.post("/estimate-body", json=facts, headers=headers)
            for headers in ({}, {"X-API-Key": KEY}, {"X-API-Key": KEY}, {"X-API-Key": "wrong-key"})
        ]

    # Without its model the service answers 503 to everything that is admitted.
    admitted = {200, 503}
    assert asked[0].status_code in admitted
    assert asked[1].status_code in admitted
    assert [answer.status_code for answer in asked[2:]] == [429, 401]
    assert not any(text in caplog.text + asked[3].text for text in (KEY, "wrong-key"))
