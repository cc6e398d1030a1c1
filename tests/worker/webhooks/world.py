"""Stores with endpoints, and sessions that end, in the sandbox's database."""

from typing import Any

from tests.sandbox import Sandbox
from tests.sandbox.producer import Queued

SECRET = "whsec_" + "QUJD" * 10


def endpoint(sandbox: Sandbox, url: str, store: str | None = None, types: list[str] | None = None) -> tuple[str, str]:
    """A store's endpoint; -> the store's and the endpoint's id."""
    store = store or sandbox.producer.store()
    answer = sandbox.database.value("select wearon_webhook_add($1, $2, $3, $4)", store, url, types, SECRET)
    return store, answer["id"]


def complete(sandbox: Sandbox, store: str, facts: dict[str, Any] | None = None) -> Queued:
    """A try-on of the store with its picture."""
    session = sandbox.producer.b2b(store, push=False)
    sandbox.database.value("select start_generation('b2b', $1, $2)", session.session_id, store)
    sandbox.database.value(
        "select complete_generation('b2b', $1, 'https://x/picture.jpg?token=t', 1, 2, 0.04, 3000, $2)",
        session.session_id,
        facts or {},
    )
    return session


def fail(sandbox: Sandbox, store: str, reason: str = "edit_failed") -> Queued:
    """A try-on of the store that failed and was refunded."""
    session = sandbox.producer.b2b(store, push=False)
    sandbox.database.value(
        "select fail_generation('b2b', $1, 'Sorry', 3000, $2)", session.session_id, {"reason": reason}
    )
    return session


def deliveries(sandbox: Sandbox, endpoint_id: str) -> list[dict[str, Any]]:
    """An endpoint's deliveries in their order."""
    return sandbox.database.fetch(
        "select * from store_webhook_deliveries where endpoint_id = $1 order by id", endpoint_id
    )
