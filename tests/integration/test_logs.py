"""All that the processes of a container write, from a good start to a crash: for machines, and without secrets."""

import json
from collections import defaultdict
from datetime import datetime
from typing import Any

import pytest

from tests.integration.life import SECRETS, Life
from tests.sandbox import Sandbox

LEVELS = {"debug", "info", "warning", "error", "critical"}
#: The request of a session without a message is unknown.
WITHOUT_MESSAGE = {"stuck_session_found"}


@pytest.fixture(scope="module")
def life(world: Sandbox) -> Life:
    lived = Life(world)
    lived.live()
    return lived


@pytest.fixture(scope="module")
def lines(life: Life) -> list[dict[str, Any]]:
    return [json.loads(line) for line in life.lines]


def test_every_line_is_json_with_time_level_event_service_and_part(life: Life) -> None:
    assert len(life.lines) > 150
    for text in life.lines:
        line = json.loads(text)
        assert line.keys() >= {"timestamp", "level", "event", "service", "part"}, text
        assert line["level"] in LEVELS
        assert line["service"] == "worker"
        assert line["part"] in ("supervisor", "celery")
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None


def test_it_has_lived_through_everything(lines: list[dict[str, Any]]) -> None:
    """A check of the scenes themselves: the other tests rely on them."""
    events = {line["event"] for line in lines}
    assert events >= {
        *("worker_starting", "worker_ready", "worker_stopped", "worker_ended", "drain_begun", "drain_cut_short"),
        *("message_taken", "message_refused", "generation_started", "generation_completed", "generation_failed"),
        *("generation_requeued", "generation_ended", "estimate_completed", "picture_refused", "picture_unusable"),
        *("consumer_backed_off", "heartbeat_failed", "stamina.retry_scheduled", "foreign_output"),
    }
    ends = [line["reason"] for line in lines if line["event"] == "worker_ended"]
    assert ends == ["celery ended: signal SIGSEGV", "OPENAI_API_KEY is not set"]


def test_every_line_of_a_generation_has_its_request_id(life: Life, lines: list[dict[str, Any]]) -> None:
    found = defaultdict(set)
    for line in lines:
        if "session_id" in line and line["event"] not in WITHOUT_MESSAGE:
            found[line["session_id"]].add(line.get("request_id"))
    assert found == {queued.session_id: {queued.request_id} for queued in life.queued}


def test_every_line_of_an_http_request_has_its_request_id(life: Life, lines: list[dict[str, Any]]) -> None:
    about = ("estimate_", "picture_", "request_")
    ids = [line.get("request_id") for line in lines if line["event"].startswith(about)]
    # Those that are refused by their form alone have nothing to say.
    assert ids == life.requests[:4]


def test_no_secret_prompt_address_or_signature_is_in_any_line(life: Life, world: Sandbox) -> None:
    stored = world.database.fetch(
        "select generated_image_url as url from generation_sessions union all "
        "select generated_image_url from store_generation_sessions"
    )
    signatures = [row["url"].split("token=")[1] for row in stored if row["url"]]
    assert len(signatures) > 5
    output = "\n".join(life.lines)
    for secret in (*SECRETS, *signatures, world.service_key, world.openai_key, "token=", "eyJ"):
        assert secret not in output, secret
