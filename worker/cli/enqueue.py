"""`wearon-worker enqueue`: queue one try-on as the producer does, and follow it to its end."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import httpx
import stamina
from postgrest.exceptions import APIError
from redis.exceptions import RedisError
from rich.console import Console
from storage3.utils import StorageException

from worker.cli.options import FiniteRange, read_file
from worker.errors import WorkerError
from worker.generation.channel import Channel
from worker.generation.queue.order import EnqueueFailed, File, Owner
from worker.generation.queue.producer import producer
from worker.generation.supabase.refusals import refusal
from worker.settings import IMAGE_MAX_BYTES, load


@click.command(name="enqueue")
@click.option("--person", required=True, help="Photo of the person: a file or a URL.")
@click.option("--garment", required=True, help="Picture of the outfit: a file or a URL.")
@click.option("--accessory", multiple=True, help="Further pictures, in order.")
@click.option("--user", type=click.UUID, help="The user who asks and pays (b2c).")
@click.option("--store", type=click.UUID, help="The store that asks (b2b); it pays unless --shopper does.")
@click.option("--shopper", help="E-mail of the store's shopper who pays.")
@click.option("--prompt", default="", help="Instead of the worker's own try-on prompt.")
@click.option("--consent-version", help="Version of the terms that the person has agreed to.")
@click.option("--age-verified", is_flag=True, default=None, help="The person's age was checked.")
@click.option(
    "--output", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Save the finished picture here."
)
@click.option(
    "--timeout",
    type=FiniteRange(min=0, min_open=True),
    default=330.0,
    show_default=True,
    help="Seconds to wait for the end.",
)
def command(
    person: str,
    garment: str,
    accessory: tuple[str, ...],
    user: UUID | None,
    store: UUID | None,
    shopper: str | None,
    prompt: str,
    consent_version: str | None,
    age_verified: bool | None,
    output: Path | None,
    timeout: float,
) -> None:
    """Queue a try-on from two pictures and follow it. Spends one credit of --user, --store or --shopper.

    Uses the same environment as the worker. Exit code 0 when the picture is there.
    """
    if (user is None) == (store is None):
        raise click.UsageError("give either --user (b2c) or --store (b2b)")
    if shopper and store is None:
        raise click.UsageError("--shopper needs --store")
    if output and not (os.access(output, os.W_OK) or os.access(output.parent, os.W_OK | os.X_OK)):
        raise EnqueueFailed(f"{output} cannot be written: {output.parent} is no folder that you may write to")
    owner = Owner(Channel.B2C, user) if user else Owner(Channel.B2B, store, shopper)  # type: ignore[arg-type]  # checked above
    pictures = [_picture(given) for given in (person, garment, *accessory)]
    more = {"prompt": prompt, "consent_version": consent_version, "age_verified": age_verified}
    if not asyncio.run(_enqueue_and_follow(owner, pictures, more, timeout, output, Console())):
        raise SystemExit(1)


def _picture(given: str) -> str | File:
    if given.startswith(("http://", "https://")):
        return given
    if not os.path.isfile(given):
        raise EnqueueFailed(f"{given} is neither a file nor an http(s) URL")
    path = Path(given)
    return File(path.name, read_file(path, IMAGE_MAX_BYTES))


async def _enqueue_and_follow(
    owner: Owner,
    pictures: list[str | File],
    more: dict[str, Any],
    timeout_seconds: float,
    output: Path | None,
    console: Console,
) -> bool:
    stamina.instrumentation.set_on_retry_hooks([])  # it would write to stdout
    try:
        async with producer(load()) as app:
            with console.status("uploading pictures") as line:
                message = await app.enqueue(owner, pictures, more)
                console.print(f"session {message.session_id}  request {message.request_id}")
                begun, row = time.monotonic(), {}
                async for row in app.follow(message, timeout_seconds):
                    console.print(f"{time.monotonic() - begun:6.1f} s  {row['status']}")
                    line.update(row["status"])
            return await _end(row, output, console)
    except (httpx.HTTPError, APIError, StorageException, RedisError, OSError) as error:
        raise EnqueueFailed(_told(error)) from error


async def _end(row: dict[str, Any], output: Path | None, console: Console) -> bool:
    if row["status"] == "failed":
        console.print(f"failed: {row['error_message']}")
        return False
    tokens = f"{row['input_tokens']} + {row['output_tokens']} tokens"
    console.print(f"done in {row['processing_time_ms'] / 1000:.1f} s, {tokens}, {row['estimated_cost_usd']} USD")
    console.print(row["generated_image_url"], soft_wrap=True)
    async with httpx.AsyncClient(timeout=30) as http:
        answer = await http.get(row["generated_image_url"])
    picture = answer.raise_for_status().content
    if output:
        _save(picture, output, row["generated_image_url"])
        click.echo(f"saved to {output}")
    return True


def _save(picture: bytes, output: Path, url: str) -> None:
    try:
        output.write_bytes(picture)
    except OSError as error:
        raise WorkerError(f"{output} cannot be written: {error.strerror}; the picture is at {url}") from None


def _told(error: Exception) -> str:
    """One line for an error of a service: the meaning of Supabase's answer, or the error's own words."""
    if isinstance(error, APIError | httpx.HTTPStatusError):
        return str(refusal(error))
    return f"{type(error).__name__}: {error}"
