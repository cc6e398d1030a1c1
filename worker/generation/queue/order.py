"""A try-on as `wearon-worker enqueue` orders it: who asks and pays, the pictures, the message and the session's row."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import ValidationError

from worker.errors import WorkerError
from worker.generation.channel import Channel
from worker.generation.message import VERSION, GenerationMessage


class EnqueueFailed(WorkerError):
    """The try-on could not be queued; the message says where its credit is."""


@dataclass(frozen=True)
class Owner:
    """The user or store that asks for the try-on and pays, unless the store's shopper does."""

    channel: Channel
    id: UUID
    shopper_email: str | None = None


@dataclass(frozen=True)
class File:
    """A picture that has to be uploaded first."""

    name: str
    content: bytes


def message_of(owner: Owner, session_id: UUID, urls: list[str], more: dict[str, Any]) -> GenerationMessage:
    """The message; raises EnqueueFailed for what no message can carry."""
    try:
        return GenerationMessage.model_validate(
            {
                "task_id": str(uuid4()),
                "channel": owner.channel,
                owner.channel.owner_column: str(owner.id),
                "session_id": str(session_id),
                "image_urls": urls,
                **more,
                "request_id": f"req_{uuid4()}",
                "version": VERSION,
                "created_at": datetime.now(UTC).isoformat(),
            }
        )
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise EnqueueFailed(f"not queued, no credit was spent: {problems}") from None


def session_row(message: GenerationMessage, shopper_email: str | None = None) -> dict[str, Any]:
    """The session's row for wearon_begin_session; the store's shopper pays, if one is given."""
    return {
        "id": str(message.session_id),
        message.channel.owner_column: str(message.owner_id),
        "request_id": message.request_id,
        "shopper_email": shopper_email,
        "model_image_url": message.image_urls[0],
        "outfit_image_url": message.image_urls[1] if len(message.image_urls) > 1 else None,
        "accessories": message.image_urls[2:],
        "prompt_user": message.prompt,
    }
