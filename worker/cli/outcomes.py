"""`wearon-worker outcomes`: ends of generations that the database rejects, for an operator to settle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import click
from rich.console import Console

from worker.cli.options import opened_redis
from worker.errors import WorkerError
from worker.generation.sessions.rejected import Rejected, RejectedOutcome
from worker.settings import load

_SHOWN_CHARACTERS = 100
_SHOWN = ("kind", "channel", "reason", "user_message", "processing_time_ms", "request_id")


class NoSuchOutcome(WorkerError):
    """No rejected outcome has this session id."""


@click.group(name="outcomes")
def command() -> None:
    """List, show, retry or drop outcomes that the database rejects.

    The session of such an outcome stays open, and its credit is not settled. Mend what the database names, then retry;
    or settle the session by hand, then drop its outcome.
    """


@command.command(name="list")
def list_outcomes() -> None:
    """List all outcomes, oldest first."""
    asyncio.run(_list(Console()))


@command.command()
@click.argument("session_id", metavar="SESSION")
def show(session_id: str) -> None:
    """Show one outcome and the answer of the database."""
    (rejected,) = asyncio.run(_chosen((session_id,), everything=False))
    for name in _SHOWN:
        click.echo(f"{name:19} {rejected.field(name)}")
    click.echo(f"{'error':19} {rejected.error}")


@command.command()
@click.argument("session_ids", metavar="SESSION", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
def retry(session_ids: tuple[str, ...], everything: bool) -> None:
    """Let a running worker write outcomes once more."""
    asyncio.run(_each(session_ids, everything, Rejected.retry, "will be tried again"))


@command.command()
@click.argument("session_ids", metavar="SESSION", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
def drop(session_ids: tuple[str, ...], everything: bool) -> None:
    """Delete outcomes whose sessions were settled by hand."""
    asyncio.run(_each(session_ids, everything, Rejected.drop, "dropped"))


async def _list(console: Console) -> None:
    async with _opened() as outcomes:
        found = await outcomes.list()
    for rejected in found:
        moment = datetime.fromtimestamp(rejected.time, UTC).isoformat(timespec="seconds")[:19]
        what = f"{rejected.field('channel')} {rejected.field('kind')}"
        line = f"{rejected.session_id}  {moment}  {what}: {rejected.error[:_SHOWN_CHARACTERS]}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    console.print(f"{len(found)} rejected outcomes", highlight=False)


async def _each(
    session_ids: tuple[str, ...],
    everything: bool,
    work: Callable[[Rejected, RejectedOutcome], Awaitable[bool]],
    done_words: str,
) -> None:
    if bool(session_ids) == everything:
        raise click.UsageError("give either the session ids or --all")
    chosen = await _chosen(session_ids, everything=everything)
    async with _opened() as outcomes:
        for rejected in chosen:
            changed = await work(outcomes, rejected)
            click.echo(f"{rejected.session_id} {done_words if changed else 'was taken by another command meanwhile'}")


async def _chosen(session_ids: tuple[str, ...], *, everything: bool) -> list[RejectedOutcome]:
    async with _opened() as outcomes:
        found = {rejected.session_id: rejected for rejected in await outcomes.list()}
    if everything:
        return list(found.values())
    for session_id in session_ids:
        if session_id not in found:
            raise NoSuchOutcome(f"no rejected outcome of session {session_id}; `wearon-worker outcomes list` shows all")
    return [found[session_id] for session_id in session_ids]


@asynccontextmanager
async def _opened() -> AsyncIterator[Rejected]:
    async with opened_redis(load()) as redis:
        yield Rejected(redis)
