"""`wearon-worker bulk`: queue a manifest of try-ons of one store, follow, cancel and collect them."""

import asyncio
import json
import re
import sys
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import click

from worker.cli import bulk_work
from worker.cli.options import as_csv, read_file
from worker.errors import WorkerError
from worker.generation.bulk.manifest import Manifest
from worker.generation.bulk.manifest_file import MAX_BYTES, ManifestInvalid, read
from worker.photos.guard import is_public
from worker.photos.url import locate
from worker.settings import load

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_COLUMNS = ["row", "reference", "status", "picture", "error", "session_id"]


def _manifest_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _ID.fullmatch(value):
        raise click.BadParameter(f"{value!r} must be 1 to 64 of a-z, 0-9, '.', '_' and '-'")
    return value


@click.group(name="bulk")
def command() -> None:
    """Queue many try-ons of one store that wait for all shoppers, within a day.

    A manifest is a CSV file with the columns person, garment and, if needed, accessories (addresses with spaces
    between), prompt, reference (the store's own name for the row), consent_version and age_verified (true), or JSON
    lines with the same fields. Each row costs the store one credit.
    """


@command.command()
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--store", "store_id", type=click.UUID, required=True, help="The store that asks and pays.")
@click.option("--id", "manifest_id", callback=_manifest_id, help="Name of the manifest; default: from its content.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def submit(manifest: Path, store_id: UUID, manifest_id: str | None, yes: bool) -> None:
    """Check every row, tell cost and time, ask, and queue the rows.

    May be repeated: rows that were queued before are not queued, and not paid, again. Exit code 0 when all rows are
    queued.
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("stdin is no terminal to ask at; add --yes")
    content, settings = read_file(manifest, MAX_BYTES, ": split it"), load()
    checked = read(content, manifest.name, store_id, manifest_id, require_consent=settings.require_consent)
    _check_addresses(checked, settings.trusted_origins)
    try:
        done = asyncio.run(bulk_work.submit(settings, checked, yes))
    except KeyboardInterrupt:
        again = "submit the same file again, which repeats nothing"
        raise WorkerError(
            f"interrupted. To go on, {again}; to give all credits back: wearon-worker bulk cancel {checked.id}"
        ) from None
    if not done:
        raise SystemExit(1)


@command.command()
@click.argument("manifest_id", metavar="ID", callback=_manifest_id)
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def status(manifest_id: str, as_json: bool) -> None:
    """Count the rows by what has become of them."""
    found = asyncio.run(bulk_work.status(manifest_id))
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo("\n".join(f"{name:10} {value}" for name, value in found.items()))


@command.command()
@click.argument("manifest_id", metavar="ID", callback=_manifest_id)
@click.option("--yes", is_flag=True, help="Do not ask.")
def cancel(manifest_id: str, yes: bool) -> None:
    """End what waits, and give its credits back; what runs already is finished. May be repeated."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("stdin is no terminal to ask at; add --yes")
    if not yes:
        click.confirm(f"Cancel what waits of {manifest_id}?", abort=True)
    count = asyncio.run(bulk_work.cancel(manifest_id))
    click.echo(", ".join(f"{number} {name}" for name, number in count.items() if number) or "nothing to cancel")
    if count["queued"]:
        click.echo("A worker has those that are still queued, and ends them unless they are paid for.")


@command.command()
@click.argument("manifest_id", metavar="ID", callback=_manifest_id)
@click.option("--format", "kind", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Default: stdout.")
def results(manifest_id: str, kind: str, output: Path | None) -> None:
    """Write a line for each row: its status, and the picture's address, signed anew for SIGNED_URL_SECONDS.

    Pictures are deleted at the age of DATA_LIFE_HOURS.
    """
    rows = asyncio.run(bulk_work.results(manifest_id))
    text = json.dumps(rows, indent=2, ensure_ascii=False) + "\n" if kind == "json" else as_csv(_COLUMNS, rows)
    try:
        output.write_text(text, encoding="utf-8") if output else click.echo(text, nl=False)
    except OSError as error:
        raise WorkerError(f"{output} cannot be written: {error.strerror}") from None


def _check_addresses(manifest: Manifest, trusted: frozenset[str]) -> None:
    """Refuse private addresses as the workers do; names are resolved by the workers alone."""
    problems = []
    for row in manifest.rows:
        for location in map(locate, row.urls):
            try:
                public = is_public(ip_address(location.host))
            except ValueError:
                public = location.host != "localhost"
            if not public and location.origin not in trusted:
                problems.append(f"line {row.line}: {location.host} is no public address")
    if problems:
        raise ManifestInvalid("\n".join(["nothing was queued:", *problems]))
