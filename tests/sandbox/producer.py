"""The steps of the Next.js application for one try-on: take the credit, insert the session row, push the message."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import redis

from tests.sandbox.database import Database

QUEUE = "wearon:tasks:generation"
_BONUS = 10


class NoCreditError(Exception):
    """The payer's balance does not cover the try-on; the product refuses it."""


@dataclass(frozen=True)
class Queued:
    """A session and the message that was (or, with `push=False`, would be) pushed for it."""

    channel: str
    session_id: str
    request_id: str
    owner_id: str
    message: dict[str, Any]


class Producer:
    """Owners with balances, and try-ons of every kind."""

    def __init__(self, database: Database, queue: redis.Redis, images: Sequence[str]) -> None:
        self._database = database
        self._queue = queue
        self._images = list(images)

    def user(self, balance: int = 10) -> str:
        """A new user with a sign-up bonus."""
        user_id = str(uuid4())
        # The database's own trigger gives every new user 10 credits.
        self._database.execute("insert into auth.users (id) values ($1)", user_id)
        if balance != _BONUS:
            self._database.execute(
                "update user_credits set balance = $2, total_earned = $2 where user_id = $1", user_id, balance
            )
            self._database.execute("update credit_transactions set amount = $2 where user_id = $1", user_id, balance)
        return user_id

    def store(self, balance: int = 100) -> str:
        """A new store that has bought credits."""
        store_id = str(uuid4())
        self._database.execute("insert into stores (id, shop_domain) values ($1, 'shop.example')", store_id)
        self._database.execute(
            "update store_credits set balance = $2, total_purchased = $2 where store_id = $1", store_id, balance
        )
        self._book(store_id, balance, "purchase", str(uuid4()))
        return store_id

    def shopper(self, store_id: str, email: str = "Shopper@Example.com", balance: int = 10) -> str:
        """Give a shopper of a store a balance of their own; returns the address as the shopper wrote it."""
        self._database.execute(
            "insert into store_shopper_credits (store_id, shopper_email, balance, total_purchased) "
            "values ($1, lower($2), $3, $3)",
            store_id,
            email,
            balance,
        )
        return email

    def b2c(
        self, user_id: str | None = None, *, images: Sequence[str] = (), prompt: str = "", push: bool = True
    ) -> Queued:
        """A user's try-on; a new user when none is given."""
        user_id, session_id = user_id or self.user(), str(uuid4())
        if not self._value("deduct_credits", user_id, 1, "Virtual try-on"):
            raise NoCreditError(user_id)
        urls = list(images) or self._images
        self._database.execute(
            "insert into generation_sessions "
            "(id, user_id, model_image_url, outfit_image_url, accessories, prompt_user, prompt_system) "
            "values ($1, $2, $3, $4, $5, $6, '')",
            *(session_id, user_id, urls[0], urls[1] if urls[1:] else None, urls[2:], prompt),
        )
        more = {"image_urls": urls, "prompt": prompt}
        return self._queued("b2c", {"user_id": user_id}, session_id, f"req_{uuid4()}", more, push=push)

    def b2b(
        self,
        store_id: str | None = None,
        *,
        paid_by: str = "store",
        shopper_email: str | None = None,
        images: Sequence[str] = (),
        prompt: str = "",
        push: bool = True,
        **more: Any,
    ) -> Queued:
        """A store's try-on, `paid_by` store, shopper or overage. `shopper_email` is recorded with any payer.

        `more` are further fields of the message.
        """
        store_id, session_id, request_id = store_id or self.store(), str(uuid4()), str(uuid4())
        self._charge(store_id, paid_by, shopper_email, request_id)
        urls = list(images) or self._images
        self._database.execute(
            "insert into store_generation_sessions "
            "(id, store_id, shopper_email, request_id, model_image_url, outfit_image_url, prompt_user, prompt_system) "
            "values ($1, $2, $3, $4, $5, $6, $7, '')",
            *(session_id, store_id, shopper_email, request_id, urls[0], urls[1] if urls[1:] else None, prompt),
        )
        more |= {"image_urls": urls, "prompt": prompt}
        return self._queued("b2b", {"store_id": store_id}, session_id, request_id, more, push=push)

    def push(self, message: dict[str, Any] | bytes | str) -> None:
        """LPUSH a message, or any bytes."""
        self._queue.lpush(QUEUE, json.dumps(message) if isinstance(message, dict) else message)

    def _charge(self, store_id: str, paid_by: str, shopper_email: str | None, request_id: str) -> None:
        text = "Virtual try-on"
        if paid_by == "overage":
            # Billed through the store's subscription: a line in the ledger, and no balance moves.
            self._book(store_id, -1, "overage", request_id)
        elif paid_by == "shopper":
            if not self._value("deduct_store_shopper_credits", store_id, shopper_email, 1, request_id, text):
                raise NoCreditError(f"{shopper_email} of {store_id}")
        elif not self._value("deduct_store_credits", store_id, 1, request_id, text):
            raise NoCreditError(store_id)

    def _book(self, store_id: str, amount: int, kind: str, request_id: str) -> None:
        self._database.execute(
            "insert into store_credit_transactions (store_id, amount, type, request_id, description) "
            "values ($1, $2, $3, $4, initcap($3))",
            *(store_id, amount, kind, request_id),
        )

    def _value(self, function: str, *arguments: object) -> Any:
        places = ", ".join(f"${number}" for number in range(1, len(arguments) + 1))
        return self._database.value(f"select {function}({places})", *arguments)

    def _queued(
        self, channel: str, owner: dict[str, str], session_id: str, request_id: str, more: dict[str, Any], *, push: bool
    ) -> Queued:
        message = {
            "task_id": str(uuid4()),
            "channel": channel,
            **owner,
            "session_id": session_id,
            "request_id": request_id,
            **more,
            "version": 1,
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        if push:
            self.push(message)
        return Queued(channel, session_id, request_id, next(iter(owner.values())), message)
