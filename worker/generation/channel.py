"""The two ways in which a try-on is asked for, with everything that differs between them, and one session of either."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Channel(StrEnum):
    """`b2b`: a store's shop; `b2c`: a user of the app. Raises ValueError for any other name."""

    #: Table of the channel's sessions.
    table: str
    #: Column of a session's owner, in every table of the channel and in the message.
    owner_column: str
    ledger: str
    balances: str
    #: Statuses of a session that is neither completed nor failed.
    open_statuses: frozenset[str]
    _pictures: str

    B2B = (
        "b2b",
        "store_generation_sessions",
        "store_id",
        "store_credit_transactions",
        "store_credits",
        frozenset({"queued", "processing"}),
        "stores/{owner_id}/generated/{session_id}.jpg",
    )
    B2C = (
        "b2c",
        "generation_sessions",
        "user_id",
        "credit_transactions",
        "user_credits",
        frozenset({"queued", "pending", "processing"}),
        "generated/{owner_id}/{session_id}.jpg",
    )

    def __new__(
        cls, name: str, table: str, owner: str, ledger: str, balances: str, statuses: frozenset[str], pictures: str
    ) -> "Channel":
        channel = str.__new__(cls, name)
        channel._value_ = name
        channel.table, channel.owner_column, channel.ledger, channel.balances = table, owner, ledger, balances
        channel.open_statuses, channel._pictures = statuses, pictures
        return channel

    def picture_path(self, owner_id: UUID, session_id: UUID) -> str:
        """Path of a session's picture in the bucket, as the contract has it."""
        return self._pictures.format(owner_id=owner_id, session_id=session_id)

    def upload_folder(self, owner_id: UUID) -> str:
        """Folder of an owner's uploaded photos in the bucket."""
        return f"stores/{owner_id}/uploads/" if self is Channel.B2B else f"uploads/{owner_id}/"


@dataclass(frozen=True)
class SessionRef:
    """One session: its id is unique in its channel's table only."""

    channel: Channel
    id: UUID
