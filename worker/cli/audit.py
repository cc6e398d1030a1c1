"""`wearon-worker audit`: the report for people, or as JSON."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence

import click
from rich.console import Console

from worker.cli.options import hasty_redis, opened_database, table
from worker.errors import WorkerError
from worker.generation.audit.kinds import BY_HAND, SEVERAL_KINDS, UNMATCHED, WRONG
from worker.generation.audit.proof import audit
from worker.generation.audit.report import Finding, Report
from worker.generation.region import Region
from worker.settings import load

#: Of each kind.
_SHOWN_FINDINGS = 5
#: The regular audit of a running worker may be under way.
_PATIENCE_SECONDS = 600.0
_UNREADABLE = 2


@click.command(
    name="audit",
    epilog=f"Exit codes: 0 the books are right; {SEVERAL_KINDS} several kinds of findings; {_UNREADABLE} the books "
    "could not be read; one kind alone: " + ", ".join(f"{kind.exit_code} {name}" for name, kind in WRONG.items()) + ".",
)
@click.option("--full", is_flag=True, help="Prove everything again, not only what has changed since the last audit.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def command(full: bool, as_json: bool) -> None:
    """Prove from the ledgers that no credit is lost or doubled.

    The first audit, one after a week and one of a small ledger are full by themselves.
    """
    try:
        report = asyncio.run(_audit(full))
    except WorkerError as error:
        click.echo(f"wearon-worker: {error}", err=True)
        raise SystemExit(_UNREADABLE) from None
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    else:
        show(report, Console(highlight=False))
    raise SystemExit(report.exit_code)


async def _audit(full: bool) -> Report:
    settings = load()
    # Not `opened_redis`: without Redis there is a report all the same.
    async with opened_database(settings) as database, hasty_redis(settings) as redis:
        region = Region(redis, database, settings) if settings.region else None
        return await audit(database, redis, everything=full, patience_seconds=_PATIENCE_SECONDS, region=region)


def show(report: Report, console: Console) -> None:
    """Sums per payer, then counts, examples and remedies of what is wrong or to be done by hand, and a verdict."""
    sums = table("payer", numbers=("accounts", "deducted", "refunded", "kept"))
    for total in report.totals:
        deducted, refunded = total["deducted"], total["refunded"]
        sums.add_row(total["payer"], *map(str, (total["accounts"], deducted, refunded, deducted - refunded)))
    console.print(sums)
    _show_findings("wrong", report.wrong, Counter(report.counts), console)
    by_hand = {kind: report.found.get(kind, {}).get("count", 0) for kind in BY_HAND}
    _show_findings("by hand", report.by_hand, Counter(by_hand), console)
    for kind, count in sorted(report.unmatched.items()):
        console.print(f"unmatched  {count} x {kind}: {UNMATCHED[kind]}", soft_wrap=True)
    if not report.redis_read:
        told = "Open sessions were judged by their age alone: Redis, or with REGION the database, did not answer."
        console.print(told, soft_wrap=True)
    how = "everything proven" if report.full else "what has changed since the last audit proven"
    read = f"{report.transactions} ledger lines, {report.sessions} sessions, {how} in {report.seconds:.1f} s"
    if report.right:
        console.print(f"[green]The books are right.[/] {read}.", soft_wrap=True)
    else:
        count = sum(report.counts.values())
        console.print(f"[red]The books are wrong: {count} findings, {report.drift} credits.[/] {read}.", soft_wrap=True)


def _show_findings(title: str, findings: Sequence[Finding], counts: Counter[str], console: Console) -> None:
    for name, kind in (WRONG | BY_HAND).items():
        if not counts[name]:
            continue
        remedy = f"{title}  {counts[name]} x {name}: {kind.meaning}; {kind.remedy}"
        console.print(remedy, soft_wrap=True, markup=False)
        found = [finding for finding in findings if finding.kind == name]
        for finding in found[:_SHOWN_FINDINGS]:
            console.print(f"    {_where(finding)}", soft_wrap=True, markup=False)
        if counts[name] > _SHOWN_FINDINGS:
            console.print(f"    and {counts[name] - _SHOWN_FINDINGS} more; --json shows up to 100 of each kind")


def _where(finding: Finding) -> str:
    parts = [finding.channel.value, f"owner {finding.owner_id}"]
    named = (("session", finding.session_id), ("request", finding.request_id), ("ledger line", finding.line_id))
    parts += [f"{name} {value}" for name, value in named if value]
    return " ".join(parts) + (f" ({finding.detail})" if finding.detail else "")
