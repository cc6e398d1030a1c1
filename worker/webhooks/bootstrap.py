"""The wiring of the deliverer, with connections of its own: no generation waits for those of a callback."""

from contextlib import AsyncExitStack

from worker import clients
from worker.settings import Settings
from worker.webhooks.deliverer import Deliverer
from worker.webhooks.outbox import Outbox
from worker.webhooks.sender import Sender

_DATABASE_CONNECTIONS = 4


def deliverer(settings: Settings, connections: AsyncExitStack) -> Deliverer:
    """Build the deliverer; connects to nothing. `connections` closes what it opens."""
    http = clients.http_client(clients.SUPABASE_TIMEOUT, connections=_DATABASE_CONNECTIONS)
    sender = Sender(
        trusted_origins=frozenset(settings.webhook_trusted_origins), connections=max(1, settings.webhook_concurrency)
    )
    connections.push_async_callback(http.aclose)
    connections.push_async_callback(sender.aclose)
    return Deliverer(
        Outbox(clients.database_client(settings, http)),
        sender,
        concurrency=settings.webhook_concurrency,
        per_endpoint=settings.webhook_endpoint_concurrency,
        picture_seconds=settings.signed_url_seconds,
    )
