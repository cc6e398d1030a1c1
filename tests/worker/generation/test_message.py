"""The message contract: what is accepted, what is refused, and that schema, type and reader agree."""

import contextlib
import json
from datetime import UTC
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.schema import message_type
from worker.errors import InvalidMessage
from worker.generation.channel import Channel, SessionRef
from worker.generation.message import VERSION, json_schema, parse
from worker.generation.queue.envelope import correlation, identify, session_of

UUIDS = st.uuids().map(str)
URLS = st.lists(
    st.sampled_from(["https://a.example/1.jpg", "https://b.example/2.png?token=x"]), min_size=1, max_size=16
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    channel = draw(st.sampled_from(["b2b", "b2c"]))
    return {
        "task_id": draw(UUIDS),
        "channel": channel,
        ("store_id" if channel == "b2b" else "user_id"): draw(UUIDS),
        "session_id": draw(UUIDS),
        "image_urls": draw(URLS),
        "prompt": draw(TEXTS),
        "request_id": f"req_{draw(UUIDS)}",
        "version": VERSION,
        "created_at": draw(st.datetimes(timezones=st.just(UTC))).isoformat(),
        **draw(
            st.fixed_dictionaries({}, optional={"consent_version": TEXTS.map(_short), "age_verified": st.booleans()})
        ),
    }


def _short(text: str) -> str:
    return text[:100]


def read(message: object) -> object:
    try:
        return parse(json.dumps(message).encode())
    except InvalidMessage as error:
        return error


@given(messages())
def test_every_message_of_the_contract_is_read_as_it_was_written(message: dict[str, Any]) -> None:
    parsed = parse(json.dumps(message).encode())
    assert str(parsed.session_id) == message["session_id"]
    assert str(parsed.owner_id) == message.get("store_id", message.get("user_id"))
    assert parsed.image_urls == message["image_urls"]
    assert parsed.prompt == message["prompt"]
    assert parsed.created_at.tzinfo is not None


@given(messages(), st.data())
def test_the_reader_accepts_exactly_what_the_schema_accepts(message: dict[str, Any], data: st.DataObject) -> None:
    changed = dict(message)
    name = data.draw(
        st.sampled_from(["task_id", "channel", "image_urls", "request_id", "version", "user_id", "store_id"])
    )
    if data.draw(st.booleans()):
        changed.pop(name, None)
    else:
        changed[name] = data.draw(JSON)
    schema_accepts = jsonschema.Draft202012Validator(json_schema(), format_checker=_formats()).is_valid(changed)
    assert isinstance(read(changed), InvalidMessage) is not schema_accepts


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused_in_order(payload: bytes) -> None:
    with contextlib.suppress(InvalidMessage):
        parse(payload)
    identify(payload)


def test_a_higher_version_is_refused_by_its_number() -> None:
    with pytest.raises(InvalidMessage, match="version is 2; this worker reads 1: update the worker"):
        parse(json.dumps({"version": 2}).encode())


def test_a_session_is_identified_in_a_message_that_cannot_be_used() -> None:
    session = uuid4()
    payload = json.dumps({"channel": "b2b", "session_id": str(session), "image_urls": 7}).encode()
    assert identify(payload) == SessionRef(Channel.B2B, session)


def test_a_session_is_read_without_its_channel_and_with_the_owners_that_are_named() -> None:
    session, owner = uuid4(), str(uuid4())
    named = {"session_id": str(session), "channel": "b2x", "user_id": owner.upper(), "store_id": None}
    assert session_of(json.dumps(named).encode()) == (session, {owner})
    assert session_of(json.dumps({"session_id": str(session), "prompt": "x" * 1_000_000}).encode()) == (session, set())
    for unreadable in (b"{", b"[]", b"{}", b'{"session_id": null}', b'{"session_id": "x"}', b'{"session_id": [1]}'):
        assert session_of(unreadable) is None


@pytest.mark.parametrize("field", ["created_at", "task_id", "session_id", "channel", "version", "image_urls", "prompt"])
def test_an_error_does_not_quote_what_it_refuses(field: str) -> None:
    ids = dict.fromkeys(("task_id", "user_id", "session_id"), str(uuid4()))
    rest = {"channel": "b2c", "image_urls": ["https://a.example/1.jpg"], "request_id": "req_1", "version": 1}
    message = {**ids, **rest, "created_at": "2026-11-25T10:00:00Z"}
    parse(json.dumps(message).encode())
    with pytest.raises(InvalidMessage) as error:
        parse(json.dumps({**message, field: ["private"] if field == "prompt" else "private"}).encode())
    assert error.value.detail.startswith(field)
    assert "private" not in error.value.detail


def test_what_correlates_the_log_lines_of_a_message_is_read_as_far_as_it_can_be() -> None:
    session = str(uuid4())
    whole = {"request_id": "req_1", "session_id": session, "channel": "b2c"}
    assert correlation(json.dumps({**whole, "prompt": "x" * 1_000_000}).encode()) == whole
    assert correlation(json.dumps({"request_id": "req_1"}).encode()) == {"request_id": "req_1"}
    assert correlation(json.dumps({**whole, "request_id": 7}).encode()) == {"session_id": session, "channel": "b2c"}
    assert correlation(b"{") == {}


def test_an_error_names_each_bad_field() -> None:
    with pytest.raises(InvalidMessage, match=r"task_id: .*; channel: .*; session_id:"):
        parse(b'{"version": 1}')


def test_the_committed_schema_and_type_are_those_of_the_reader() -> None:
    contracts = Path(__file__).parents[3] / "docs" / "contracts"
    assert json.loads((contracts / "generation-message.schema.json").read_text()) == json_schema()
    assert (contracts / "generation-message.ts").read_text() == message_type() + "\n"


def _formats() -> jsonschema.FormatChecker:
    return jsonschema.Draft202012Validator.FORMAT_CHECKER
