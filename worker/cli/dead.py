"""`wearon-worker dead`: show messages that could not be used, requeue or delete them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import click
from rich.console import Console
from rich.table import Table

from worker.cli.options import opened_redis
from worker.errors import WorkerError
from worker.generation.queue.dead_letter import CannotReplay, DeadLetter
from worker.generation.queue.dead_letters import DeadLetters
from worker.generation.queue.envelope import identify
from worker.settings import load

#: Everything after the path of an address may be a signature; an escaped question mark is one, too.
_ADDRESS = re.compile(r"""(https?:(?:\\?/){2})(?:[^\s"'/?#\\]*@)?((?:(?!\\u00)[^\s"'?#])*)([^\s"']*)""", re.IGNORECASE)
_SHOWN_CHARACTERS = 20_000


class NoSuchLetter(WorkerError):
    """The id is not on the list."""


@click.group(name="dead")
def command() -> None:
    """List, show, replay or drop messages that could not be used.

    The session of such a message was failed and its credit refunded when it was refused, if the session could be read
    from it. A replay does not change that.
    """


@command.command(name="list")
def list_letters() -> None:
    """List all messages, newest first."""
    asyncio.run(_list(Console()))


@command.command()
@click.argument("letter_id", metavar="ID")
def show(letter_id: str) -> None:
    """Show one message, without the secret part of addresses."""
    click.echo(describe(asyncio.run(_one(letter_id))))


@command.command()
@click.argument("letter_ids", metavar="ID", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them, oldest first.")
def replay(letter_ids: tuple[str, ...], everything: bool) -> None:
    """Requeue messages as if they were new."""
    done = asyncio.run(_each(letter_ids, everything, DeadLetters.replay, "replayed"))
    if done:
        click.echo("Sessions that were failed and refunded stay so: the worker only starts sessions that are queued.")


@command.command()
@click.argument("letter_ids", metavar="ID", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
def drop(letter_ids: tuple[str, ...], everything: bool) -> None:
    """Delete messages for good."""
    asyncio.run(_each(letter_ids, everything, DeadLetters.drop, "dropped"))


def describe(letter: DeadLetter) -> str:
    """The letter for people: JSON indented, anything else as text, addresses without their secret part."""
    size = f"{letter.payload_bytes} bytes" + ("" if letter.complete else f", {len(letter.message)} kept: no replay")
    text = letter.message.decode(errors="backslashreplace")
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    head = [f"id       {letter.id}", f"time     {letter.time}", f"reason   {letter.reason}", f"size     {size}"]
    return _redacted("\n".join([*head, f"detail   {letter.detail}", "", text[:_SHOWN_CHARACTERS]]))


def _redacted(text: str) -> str:
    # Addresses end after their path; whatever could steer a terminal is escaped.
    text = _ADDRESS.sub(lambda match: match[1] + match[2] + ("?..." if match[3] else ""), text)
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


async def _list(console: Console) -> None:
    table = Table("id", "time", "reason", "session", "bytes", "detail", box=None, pad_edge=False)
    async with _opened() as letters:
        async for letter in letters.newest_first():
            _add_row(table, letter)
        made_room = await letters.made_room()
    if table.row_count:
        console.print(table)
    console.print(f"{table.row_count} dead letters, {made_room} older ones made room", highlight=False)


def _add_row(table: Table, letter: DeadLetter) -> None:
    session = identify(letter.message)
    named = f"{session.channel} {session.id}" if session else "unknown"
    table.add_row(
        letter.id, letter.time[:19], letter.reason, named, str(letter.payload_bytes), _redacted(letter.detail)[:80]
    )


async def _one(letter_id: str) -> DeadLetter:
    async with _opened() as letters:
        return await _find(letters, letter_id)


async def _each(
    letter_ids: tuple[str, ...],
    everything: bool,
    work: Callable[[DeadLetters, DeadLetter], Awaitable[bool]],
    done_word: str,
) -> int:
    if bool(letter_ids) == everything:
        raise click.UsageError("give either the ids or --all")
    done = 0
    async with _opened() as letters:
        async for letter in letters.oldest_first() if everything else _named(letters, letter_ids):
            try:
                changed = await work(letters, letter)
            except CannotReplay as error:
                if not everything:
                    raise
                click.echo(str(error))
                continue
            click.echo(f"{letter.id} {done_word if changed else 'was taken by another command meanwhile'}")
            done += changed
    click.echo(f"{done} {done_word}")
    return done


async def _named(letters: DeadLetters, letter_ids: tuple[str, ...]) -> AsyncIterator[DeadLetter]:
    for letter_id in letter_ids:
        yield await _find(letters, letter_id)


async def _find(letters: DeadLetters, letter_id: str) -> DeadLetter:
    letter = await letters.find(letter_id)
    if letter is None:
        raise NoSuchLetter(f"there is no dead letter {letter_id}; `wearon-worker dead list` shows all")
    return letter


@asynccontextmanager
async def _opened() -> AsyncIterator[DeadLetters]:
    settings = load()
    async with opened_redis(settings) as redis:
        yield DeadLetters(redis, settings.dead_letters_max, settings.dead_letters_max_bytes)
