"""`wearon-worker purge`: delete old data, or all data of one user or store, and report it by place."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import click
from redis.asyncio import Redis
from rich.console import Console

from worker import clients
from worker.cli.options import opened_database, opened_redis, table
from worker.errors import SettingsError
from worker.generation.channel import Channel
from worker.generation.data_life.lock import exclusive
from worker.generation.data_life.purge import Report
from worker.generation.data_life.tools import Tools
from worker.settings import Settings, load

#: A killed purge keeps its lock for a moment; the regular purge of a running worker may take longer.
_PATIENCE_SECONDS = 600.0
#: What an erasure leaves, and the reason.
_KEPT = {
    Channel.B2C: (
        "ledger and balance (credit_transactions, user_credits): the books are proven from them",
        "session rows without addresses: status, time, cost and prompt; deleting the user's account removes them, too",
        "events (analytics_events) with user, session and request; deleting the user's account takes the user out",
    ),
    Channel.B2B: (
        "ledger and balances (store_credit_transactions, store_credits, store_shopper_credits), with shoppers' e-mail "
        "addresses: the books are proven from them",
        "session rows without addresses: status, time, cost, prompt and shopper; deleting the store removes them, too",
        "events (store_analytics_events), with shoppers' e-mail addresses; deleting the store removes them, too",
        "callbacks (store_webhook_deliveries) end after 7 days; partners keep what they were sent",
        "manifests of bulk (Redis) keep the store's own names for their rows, no address, and end after 30 days",
        "files of the store outside of its folders uploads and generated",
    ),
}
_ELSEWHERE = (
    "logs name sessions and requests, no pictures or prompts, and end with their retention",
    "OpenAI keeps requests for up to 30 days (docs/privacy.md)",
)


@click.command(name="purge", epilog="Exit code 0 when everything went that had to go; 1 when something is left.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; show how much would go, and how old it is.")
@click.option("--user", type=click.UUID, help="Erase everything of this user, whatever its age.")
@click.option("--store", type=click.UUID, help="Erase everything of this store, whatever its age.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def command(dry_run: bool, user: UUID | None, store: UUID | None, as_json: bool) -> None:
    """Delete pictures, their addresses and kept messages that are older than DATA_LIFE_HOURS.

    With --user or --store: erase what is there of one owner. Pictures of open sessions stay; no file outside of the
    picture folders is touched.
    """
    if user and store:
        raise click.UsageError("give either --user or --store")
    owner = (Channel.B2C, user) if user else (Channel.B2B, store) if store else None
    settings = load()
    report = asyncio.run(_run(settings, owner, dry_run))
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    else:
        show(report, owner[0] if owner else None, Console(highlight=False), settings.region)
    raise SystemExit(1 if report.pictures.failures else 0)


async def _run(settings: Settings, owner: tuple[Channel, UUID] | None, dry_run: bool) -> Report:
    if not owner and not settings.data_life_hours:
        raise SettingsError("DATA_LIFE_HOURS is 0: data is never too old; set it, or give --user or --store")
    report, verb = Report(dry_run), _verb(dry_run)
    async with opened_redis(settings) as redis, _opened_tools(settings, redis) as tools:
        with Console(stderr=True).status("") as status:

            def on_progress() -> None:
                seen = report.pictures
                status.update(
                    f"{seen.objects} pictures, {seen.bytes / 1e6:.1f} MB {verb}; {seen.young} are young, "
                    f"{seen.in_use} in use; {report.rows.rows} rows"
                )

            if owner:
                await tools.erasure().run(*owner, report, on_progress)
            elif dry_run:
                await tools.purge().run(report, on_progress=on_progress)
            else:
                await _purge(tools, redis, report, on_progress)
    return report


async def _purge(tools: Tools, redis: Redis, report: Report, on_progress: Callable[[], None]) -> None:
    async with exclusive(redis, _PATIENCE_SECONDS) as check:
        await tools.purge().run(report, check, on_progress, every_row=True)
        if report.resumed:
            # Entries before the place may have become old since.
            report.pictures.young = report.pictures.in_use = report.pictures.failures = 0
            await tools.purge().run(report, check, on_progress)


@asynccontextmanager
async def _opened_tools(settings: Settings, redis: Redis) -> AsyncIterator[Tools]:
    async with (
        opened_database(settings) as database,
        clients.http_client(clients.STORAGE_TIMEOUT, connections=10) as storage,
    ):
        yield Tools(settings, database, clients.storage_client(settings, storage), redis)


def show(report: Report, erased: Channel | None, console: Console, region: str = "") -> None:
    """Objects by area, then rows and messages, what stays, and a verdict."""
    pictures = report.pictures
    areas = table("pictures", numbers=("objects", "bytes"))
    for area, each in pictures.deleted.items():
        areas.add_row(area, f"{each.objects:,}", f"{each.bytes:,}")
    console.print(areas)
    verb = _verb(report.dry_run)
    lines = [
        f"{verb}: {pictures.objects:,} pictures of {pictures.bytes:,} bytes"
        + (f", the oldest of {pictures.oldest_deleted:%Y-%m-%d %H:%M} UTC" if pictures.oldest_deleted else ""),
        f"{verb}: {report.redis.letters} dead letters, {report.redis.outcomes} addresses in kept outcomes",
    ]
    if not report.dry_run:
        lines.append(f"deleted: the addresses of {report.rows.rows:,} sessions")
    lines.append(f"stay: {pictures.young:,} younger pictures, {pictures.in_use:,} of open sessions")
    if erased and report.rows.open:
        lines.append(f"stay: the addresses of {report.rows.open} open sessions; erase again once they have ended")
    if erased:
        lines += [f"stays: {each}" for each in (*_KEPT[erased], *_ELSEWHERE)]
    if erased and region:
        lines.append(f"stay: dead letters and kept outcomes of other regions than {region}; erase in each of them, too")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    if pictures.failures:
        console.print(
            f"[red]{pictures.failures} could not be deleted[/]; the log names why. Run the purge again.", soft_wrap=True
        )
    else:
        console.print(f"[green]Done[/] in {report.seconds:.1f} s.")


def _verb(dry_run: bool) -> str:
    return "would go" if dry_run else "deleted"
