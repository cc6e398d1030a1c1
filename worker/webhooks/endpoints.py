"""Stores' endpoints as an operator manages them, through the SQL functions in generation/sql."""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from postgrest import AsyncPostgrestClient
from pydantic import SecretStr

from worker.errors import CallRejected, ServiceUnavailable, WorkerError
from worker.generation.supabase.database import AnswerLost, FunctionMissing, run
from worker.webhooks.sender import Answer, Event, Sender, UrlRefused, check_url

#: The type of the callback that `wearon-worker webhook test` sends.
TEST = "webhook_test"
_SECRET_BYTES = 32
#: The table takes no longer URL.
_MAX_URL_LENGTH = 2048


class EndpointError(WorkerError):
    """The database has no such endpoint or store, or does not take the endpoint as it is."""


class Endpoints:
    """All methods raise EndpointError for a mistake, and ServiceUnavailable while the database is unavailable."""

    def __init__(self, database: AsyncPostgrestClient) -> None:
        self._database = database

    async def all(self, store: UUID | None) -> list[dict[str, Any]]:
        """All endpoints, or one store's."""
        found: list[dict[str, Any]] = await self._call("wearon_webhook_list", p_store_id=store and str(store))
        return found

    async def deliveries(self, endpoint: UUID | None, *, failed: bool, limit: int) -> list[dict[str, Any]]:
        """The newest deliveries, newest first."""
        found: list[dict[str, Any]] = await self._call(
            "wearon_webhook_deliveries", p_endpoint=endpoint and str(endpoint), p_failed=failed, p_limit=limit
        )
        return found

    async def add(self, store: UUID, url: str, types: Sequence[str]) -> tuple[str, str]:
        """Make an endpoint. Return its id and its secret, which cannot be read again."""
        try:
            check_url(url)
        except UrlRefused as error:
            raise EndpointError(f"{error} An endpoint is an https URL like https://shop.example/wearon") from None
        if len(url) > _MAX_URL_LENGTH:
            raise EndpointError(f"URL has {len(url)} characters; the limit is {_MAX_URL_LENGTH}.")
        url = "https" + url[5:]  # the table knows the scheme in lower case only
        secret = _new_secret()
        answer = await self._call_again(
            "wearon_webhook_add", p_store_id=str(store), p_url=url, p_event_types=list(types) or None, p_secret=secret
        )
        return answer["id"], secret

    async def rotate(self, endpoint: UUID, keep_seconds: int) -> str:
        """Make a new secret; callbacks are signed with both for this long."""
        secret = _new_secret()
        await self._call_again(
            "wearon_webhook_rotate", p_endpoint=str(endpoint), p_secret=secret, p_keep_seconds=keep_seconds
        )
        return secret

    async def switch(self, endpoint: UUID, *, enabled: bool) -> int:
        """Enable or disable an endpoint. Return the number of callbacks given up."""
        parameters = {"p_endpoint": str(endpoint), "p_enabled": enabled, "p_reason": "operator"}
        return await self._sum("given_up", "wearon_webhook_switch", **parameters)

    async def replay(self, deliveries: Sequence[int], endpoint: UUID | None) -> int:
        """Queue deliveries again, or all that an endpoint has given up. Return their number."""
        parameters = {"p_ids": list(deliveries), "p_endpoint": endpoint and str(endpoint)}
        return await self._sum("queued", "wearon_webhook_replay", **parameters)

    async def test(self, endpoint: UUID, sender: Sender) -> Answer:
        """Send a test event at once, past the outbox."""
        found = await self._call("wearon_webhook_endpoint", p_endpoint=str(endpoint))
        keys = [SecretStr(secret) for secret in found["secrets"] or []]
        now = datetime.now(UTC).isoformat()
        return await sender.send(found["url"], keys, Event(str(uuid4()), TEST, now, {"store_id": found["store_id"]}))

    async def _sum(self, number: str, function: str, **parameters: Any) -> int:
        """Call until nothing is left: each call changes some thousands of callbacks. Return their number."""
        total, more = 0, True
        while more:
            answer = await self._call(function, **parameters)
            total, more = total + int(answer[number]), bool(answer.get("more"))
        return total

    async def _call_again(self, function: str, **parameters: Any) -> Any:
        """Repeat a call whose answer was lost: its secret was never shown."""
        try:
            return await self._call(function, **parameters)
        except AnswerLost:
            return await self._call(function, **parameters)

    async def _call(self, function: str, **parameters: Any) -> Any:
        try:
            answer = await run(self._database.rpc(function, parameters), "the database refused")
        except FunctionMissing:
            raise EndpointError("the database lacks the functions of callbacks; see `wearon-worker doctor`") from None
        except CallRejected as error:
            raise EndpointError(str(error)) from None
        if isinstance(answer, dict) and (problem := answer.get("error")):
            raise EndpointError(f"{problem}; `wearon-worker webhook list` shows all endpoints")
        if not isinstance(answer, dict | list):
            raise ServiceUnavailable(f"database answered {function} with {type(answer).__name__}")
        return answer


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
