"""The JSON object that a producer pushes on the Redis list: contract version 1."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from worker.errors import InvalidMessage
from worker.generation.channel import Channel, SessionRef

#: Far above any real message (16 signed URLs of 2 kB and a prompt), far below what would hurt.
MAX_MESSAGE_BYTES = 256 * 1024
#: What OpenAI's image edit takes at most.
MAX_IMAGES = 16
VERSION = 1


def timestamp(value: object) -> datetime:
    """Read the moment of a field; UTC when it names no zone. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("must be an ISO 8601 string")  # noqa: TRY004  # pydantic reports ValueError only
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        # Not Python's own words, which repeat the value.
        raise ValueError("must be an ISO 8601 string") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


#: Strict mode takes only UUID objects from Python; JSON carries them as strings.
Uuid = Annotated[UUID, BeforeValidator(lambda value: UUID(value) if isinstance(value, str) else value)]
#: For Python, True equals 1.
_Version = Annotated[Literal[1], BeforeValidator(lambda value: str(value) if isinstance(value, bool) else value)]


class GenerationMessage(BaseModel):
    """One try-on to make. Unknown extra fields are ignored; absent optional fields may be omitted or null."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", title="GenerationMessage")

    task_id: Uuid = Field(description="Identity of this message.")
    channel: Annotated[
        Channel, WithJsonSchema({"enum": list(Channel), "title": "Channel", "type": "string"}), Field(strict=False)
    ] = Field(description="b2c: a user of the app; b2b: a store's shop.")
    store_id: Uuid | None = Field(default=None, description="Owner of a b2b session; required there.")
    user_id: Uuid | None = Field(default=None, description="Owner of a b2c session; required there.")
    session_id: Uuid = Field(description="Row in the channel's session table.")
    image_urls: list[Annotated[str, Field(min_length=1, max_length=8192)]] = Field(
        min_length=1, max_length=MAX_IMAGES, description="The person, then the outfit, then accessories."
    )
    prompt: Annotated[str, Field(max_length=32_000), BeforeValidator(lambda value: "" if value is None else value)] = (
        Field(default="", description="Empty: the worker's own try-on prompt.")
    )
    request_id: str = Field(
        min_length=1, max_length=200, description="Correlation id, on every log line of the generation."
    )
    version: _Version = Field(description="Version of this contract.")
    created_at: Annotated[datetime, BeforeValidator(timestamp)] = Field(description="When it was queued (ISO 8601).")

    priority: Literal["interactive", "bulk"] | None = Field(
        default=None, description="bulk: with slots and calls that no shopper needs, within a day; for b2b only."
    )
    consent_version: str | None = Field(
        default=None, max_length=100, description="Version of the terms that the person has agreed to."
    )
    age_verified: bool | None = Field(default=None, description="True: the person's age was checked.")

    @model_validator(mode="after")
    def _has_its_owner(self) -> Self:
        if getattr(self, self.channel.owner_column) is None:
            raise ValueError(f"{self.channel.owner_column} is required for {self.channel}")
        return self

    @property
    def session(self) -> SessionRef:
        """The session that the try-on is made for."""
        return SessionRef(self.channel, self.session_id)

    @property
    def is_bulk(self) -> bool:
        """Return True for a store's message that waits for all others: the app ends a user's session after minutes."""
        return self.priority == "bulk" and self.channel is Channel.B2B

    @property
    def payer(self) -> str:
        """Name of the lane and the budget: `b2c` for all users of the app, else the store's id."""
        return str(self.owner_id) if self.channel is Channel.B2B else str(self.channel)

    @property
    def consents(self) -> bool:
        """Return True if the person has agreed to a version of the terms, and the age was checked."""
        return bool(self.consent_version and self.age_verified)

    @property
    def consent(self) -> dict[str, bool | str]:
        """Consent and age for logs and events, as far as the message names them."""
        named = {"consent_version": self.consent_version, "age_verified": self.age_verified}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def owner_id(self) -> UUID:
        """The store (b2b) or the user (b2c)."""
        owner = getattr(self, self.channel.owner_column)
        assert isinstance(owner, UUID)  # noqa: S101  # the validator above
        return owner


def parse(payload: bytes) -> GenerationMessage:
    """Read one message; raises InvalidMessage."""
    fields = read_object(payload)
    version = fields.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise InvalidMessage("unknown_version", f"version is {version}; this worker reads {VERSION}: update the worker")
    try:
        return GenerationMessage.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'message'}: {item['msg']}" for item in error.errors()[:5]
        )
        raise InvalidMessage("invalid_field", problems) from None


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the message, the cross-field rules included."""
    schema = GenerationMessage.model_json_schema()
    schema["allOf"] = [
        {
            "if": {"properties": {"channel": {"const": channel}}},
            "then": {
                "required": [channel.owner_column],
                "properties": {channel.owner_column: {"type": "string", "format": "uuid"}},
            },
        }
        for channel in Channel
    ]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def read_object(payload: bytes, max_bytes: int = MAX_MESSAGE_BYTES) -> dict[str, Any]:
    """The message's fields, unchecked; raises InvalidMessage."""
    if len(payload) > max_bytes:
        raise InvalidMessage("too_large", f"message is {len(payload)} bytes; the limit is {max_bytes}")
    try:
        fields = json.loads(payload.decode())
    except UnicodeDecodeError as error:
        raise InvalidMessage("not_utf8", f"message is not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise InvalidMessage("not_json", f"message is not JSON: {error}") from None
    except RecursionError:
        raise InvalidMessage("not_json", "message is nested too deeply") from None
    if not isinstance(fields, dict):
        raise InvalidMessage("not_an_object", f"message is a JSON {type(fields).__name__}, not an object")
    return fields
