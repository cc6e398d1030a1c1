"""`wearon-worker audit`: the report for people, or as JSON."""

import asyncio
import json
from collections.abc import Sequence

import click
import stamina
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from rich.console import Console
from rich.table import Table

from worker import clients
from worker.errors import WorkerError
from worker.generation.audit.proof import audit
from worker.generation.audit.report import BY_HAND, UNMATCHED, WRONG, Finding, Report
from worker.settings import load

_SHOWN_FINDINGS = 20


@click.command(name="audit")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def command(as_json: bool) -> None:
    """Prove from the ledgers that no credit is lost or doubled.

    Exit code 0: the books are right; 1: they are wrong; 2: they could not be read.
    """
    try:
        report = asyncio.run(_audit())
    except WorkerError as error:
        click.echo(f"wearon-worker: {error}", err=True)
        raise SystemExit(2) from None
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    else:
        show(report, Console(highlight=False))
    raise SystemExit(0 if report.right else 1)


async def _audit() -> Report:
    settings = load()
    stamina.instrumentation.set_on_retry_hooks([])  # it would write to stdout
    redis = clients.redis_client(settings)
    redis.set_retry(Retry(NoBackoff(), 0))  # without Redis there is a report all the same
    async with clients.http_client(clients.SUPABASE_TIMEOUT, connections=2) as http, redis:
        return await audit(clients.database_client(settings, http), redis)


def show(report: Report, console: Console) -> None:
    """Sums per payer, then what is wrong, what is to be done by hand, and what cannot be matched."""
    columns = ("channel", "payer", "deducted", "= completed", "+ refunded", "+ in work", "+ unmatched")
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for _, total in sorted(report.totals.items()):
        numbers = (total.deducted, total.completed, total.refunded, total.in_work, total.unmatched)
        table.add_row(total.channel, total.payer, *map(str, numbers))
    console.print(table)
    _show_findings("wrong", report.wrong, WRONG, console)
    _show_findings("by hand", report.by_hand, BY_HAND, console)
    for (channel, kind), count in sorted(report.unmatched.items()):
        console.print(f"unmatched  {channel}  {count} x {kind}: {UNMATCHED[kind]}", soft_wrap=True)
    if not report.redis_read:
        console.print("Redis could not be asked: only the age of open sessions was checked.")
    read = f"{report.sessions} sessions and {report.transactions} ledger lines read in {report.seconds:.1f} s"
    if report.right:
        console.print(f"[green]The books are right.[/] {read}.")
    else:
        console.print(f"[red]The books are wrong: {len(report.wrong)} findings, {report.drift} credits.[/] {read}.")


def _show_findings(title: str, findings: Sequence[Finding], meanings: dict[str, str], console: Console) -> None:
    for finding in findings[:_SHOWN_FINDINGS]:
        which = f"session {finding.session_id}" if finding.session_id else f"owner {finding.owner_id}"
        which += f" request {finding.request_id}" if finding.request_id and not finding.session_id else ""
        detail = f" ({finding.detail})" if finding.detail else ""
        console.print(
            f"{title}  {finding.channel}  {which}: {meanings[finding.kind]}{detail}", soft_wrap=True, markup=False
        )
    if len(findings) > _SHOWN_FINDINGS:
        console.print(f"{title}  and {len(findings) - _SHOWN_FINDINGS} more; --json shows all")
