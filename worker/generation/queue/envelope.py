"""The parts of a message that can be read even when the message cannot be used: its session, its owners, its ids."""

from typing import Any
from uuid import UUID

from worker.errors import InvalidMessage
from worker.generation.channel import Channel, SessionRef
from worker.generation.message import read_object

#: Up to here a message that is too large is searched for the session that has to be failed.
_READABLE_BYTES = 64 * 1024 * 1024


def identify(payload: bytes) -> SessionRef | None:
    """Session of any message, if at least its id and its channel can be read."""
    fields = _readable(payload)
    channel, session_id = _channel(fields), _session_id(fields)
    return SessionRef(channel, session_id) if channel and session_id else None


def session_of(payload: bytes) -> tuple[UUID, set[str]] | None:
    """Session of a message whose channel cannot be read, with the owners that the message names."""
    session_id = _session_id(_readable(payload))
    return (session_id, owners(payload)) if session_id else None


def owners(payload: bytes) -> set[str]:
    """The user and the store that any message names, as far as they can be read."""
    fields = _readable(payload)
    return {owner.lower() for owner in (fields.get("user_id"), fields.get("store_id")) if isinstance(owner, str)}


def correlation(payload: bytes) -> dict[str, str]:
    """Return request_id, session_id and channel of any message for the log, as far as they can be read."""
    fields = _readable(payload)
    channel, session_id, request_id = _channel(fields), _session_id(fields), fields.get("request_id")
    ids = {"session_id": str(session_id)} if session_id else {}
    ids |= {"channel": channel} if session_id and channel else {}
    if not isinstance(request_id, str):
        return ids
    # A lone surrogate, which JSON can carry, can be written nowhere.
    return {**ids, "request_id": request_id[:200].encode("utf-8", "replace").decode()}


def _readable(payload: bytes) -> dict[str, Any]:
    """Return the fields of a message of any size, as far as they can be read."""
    try:
        return read_object(payload, _READABLE_BYTES)
    except InvalidMessage:
        return {}


def _channel(fields: dict[str, Any]) -> Channel | None:
    return next((channel for channel in Channel if channel == fields.get("channel")), None)


def _session_id(fields: dict[str, Any]) -> UUID | None:
    try:
        return UUID(fields["session_id"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
