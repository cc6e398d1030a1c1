"""`wearon-worker webhook`: manage the endpoints of stores' callbacks, their secrets and deliveries."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import click

from worker.cli.options import opened_database
from worker.errors import WorkerError
from worker.settings import load
from worker.webhooks.endpoints import Endpoints
from worker.webhooks.sender import Answer, Sender

T = TypeVar("T")
TYPES = ("generation_completed", "generation_failed", "generation_moderation_blocked", "credit_refunded")
_HOUR_SECONDS = 3600
_MAX_ID = 2**63 - 1
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_endpoint = click.argument("endpoint", metavar="ENDPOINT", type=click.UUID)


@click.group(name="webhook")
def command() -> None:
    """Manage the callbacks of stores: endpoints, secrets, deliveries.

    The database keeps the endpoints. A running worker sends the callbacks; changes count at once.
    """


@command.command(name="list")
@click.option("--store", type=click.UUID, help="Only this store's.")
def list_endpoints(store: UUID | None) -> None:
    """List endpoints: state, waiting callbacks, URL."""
    found = _run(lambda endpoints: endpoints.all(store))
    rows: list[tuple[str, ...]] = [("endpoint", "store", "state", "waiting", "secrets", "types", "url")]
    for each in found:
        types = "all" if set(each["event_types"]) == set(TYPES) else ",".join(each["event_types"])
        numbers = (str(each["waiting"]), str(each["secrets"]))
        rows.append((each["id"], each["store_id"], _state(each), *numbers, types, _shown(each["url"])))
    _print(rows, f"{len(found)} endpoints")


@command.command()
@click.option("--store", required=True, type=click.UUID, help="Store whose try-ons it is told of.")
@click.option("--url", required=True, help="https, without credentials; redirects are not followed.")
@click.option(
    "--event", "types", multiple=True, type=click.Choice(TYPES), help="Type of event; repeatable. Default: all types."
)
def add(store: UUID, url: str, types: tuple[str, ...]) -> None:
    """Add an endpoint and show its secret, this once."""
    endpoint, secret = _run(lambda endpoints: endpoints.add(store, url, types))
    click.echo(f"endpoint  {endpoint}\nsecret    {secret}")
    click.echo("Hand the secret to the partner over a safe way: it is not shown again.", err=True)


@command.command()
@_endpoint
def test(endpoint: UUID) -> None:
    """Send a test event now.

    Exit code 0 only when the endpoint took it.
    """
    answer = _run(lambda endpoints: _test(endpoints, endpoint))
    if answer.result != "delivered":
        raise WorkerError(f"the endpoint did not take the test event: {answer.error}")
    click.echo(f"delivered: the endpoint answered {answer.status}")


@command.command()
@_endpoint
@click.option(
    "--keep-hours",
    default=24,
    show_default=True,
    type=click.IntRange(0, 720),
    help="Hours that the old secret stays valid.",
)
@_yes
def rotate(endpoint: UUID, keep_hours: int, yes: bool) -> None:
    """Make a new secret and show it, this once.

    Callbacks carry signatures of both secrets while the old one is kept.
    """
    if not yes:
        click.confirm(f"The old secret stays valid for {keep_hours} hours. Make a new one?", abort=True)
    secret = _run(lambda endpoints: endpoints.rotate(endpoint, keep_hours * _HOUR_SECONDS))
    click.echo(f"secret    {secret}")
    click.echo("Hand the secret to the partner over a safe way: it is not shown again.", err=True)


@command.command()
@_endpoint
@_yes
def disable(endpoint: UUID, yes: bool) -> None:
    """Send nothing more to an endpoint.

    Callbacks that wait for it are given up.
    """
    if not yes:
        click.confirm("Callbacks that wait for this endpoint are given up. Disable it?", abort=True)
    given_up = _run(lambda endpoints: endpoints.switch(endpoint, enabled=False))
    click.echo(f"{endpoint} disabled, {given_up} callbacks given up; `enable` and `replay` send them after all")


@command.command()
@_endpoint
def enable(endpoint: UUID) -> None:
    """Send callbacks to a disabled endpoint again.

    An operator had disabled it, or its own answer 410.
    """
    _run(lambda endpoints: endpoints.switch(endpoint, enabled=True))
    click.echo(f"{endpoint} enabled; `wearon-worker webhook replay --endpoint {endpoint}` sends what was given up")


@command.command()
@click.option("--endpoint", type=click.UUID, help="Only this endpoint's.")
@click.option("--failed", is_flag=True, help="Only those given up, or waiting after a failure.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
def deliveries(endpoint: UUID | None, failed: bool, limit: int) -> None:
    """List the newest deliveries."""
    found = _run(lambda endpoints: endpoints.deliveries(endpoint, failed=failed, limit=limit))
    rows: list[tuple[str, ...]] = [("id", "time", "type", "session", "state", "tries", "last answer")]
    for each in found:
        answer = _shown(str(each["last_error"] or each["last_status"] or ""))
        what = (str(each["id"]), each["occurred_at"][:19], each["type"], each["session_id"], _progress(each))
        rows.append((*what, str(each["attempts"]), answer))
    _print(rows, f"{len(found)} deliveries")


@command.command()
@click.argument("ids", metavar="[DELIVERY]...", nargs=-1, type=click.IntRange(1, _MAX_ID))
@click.option("--endpoint", type=click.UUID, help="All that this endpoint has given up.")
@_yes
def replay(ids: tuple[int, ...], endpoint: UUID | None, yes: bool) -> None:
    """Send deliveries again.

    They keep their ids: a partner drops a callback that it has already.
    """
    if bool(ids) == bool(endpoint):
        raise click.UsageError("give either delivery ids or --endpoint")
    if endpoint and not yes:
        click.confirm("Send everything again that this endpoint has given up?", abort=True)
    queued = _run(lambda endpoints: endpoints.replay(ids, endpoint))
    click.echo(f"{queued} deliveries queued; a delivery that waits, or whose endpoint is disabled, is left as it is")


async def _test(endpoints: Endpoints, endpoint: UUID) -> Answer:
    sender = Sender(trusted_origins=frozenset(load().webhook_trusted_origins), connections=1)
    try:
        return await endpoints.test(endpoint, sender)
    finally:
        await sender.aclose()


def _run(work: Callable[[Endpoints], Awaitable[T]]) -> T:
    async def run() -> T:
        async with opened_database(load(), connections=1) as database:
            return await work(Endpoints(database))

    return asyncio.run(run())


def _state(endpoint: dict[str, Any]) -> str:
    if endpoint["disabled_at"]:
        return f"disabled ({endpoint['disabled_reason']})"
    return f"failing ({endpoint['failures']} in a row)" if endpoint["failures"] else "enabled"


def _progress(delivery: dict[str, Any]) -> str:
    if delivery["delivered_at"]:
        return "delivered"
    if delivery["given_up_at"]:
        return "given up"
    return "under way" if delivery["lease"] else "waiting"


def _shown(text: str) -> str:
    """Text without characters that steer a terminal, and without a query, which may hold a partner's token."""
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return plain.partition("?")[0] + ("?..." if "?" in plain else "")


def _print(rows: Sequence[tuple[str, ...]], summary: str) -> None:
    """Columns as wide as they have to be: an id that is cut off cannot be copied."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if rows[1:] else []:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    click.echo(summary)
