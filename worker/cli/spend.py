"""`wearon-worker spend`: show what OpenAI costs, by payer and model, beside the budgets."""

import asyncio
import json
import re
from decimal import Decimal
from typing import Any

import click
from rich.console import Console

from worker.cli.options import as_csv, opened_database, opened_redis, table
from worker.errors import ServiceUnavailable
from worker.generation.queue.lanes import STORE
from worker.generation.spend.limits import ALL, Limits, periods
from worker.generation.spend.view import SpendView, Spent
from worker.settings import Settings, load


def _month(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"2[0-9]{3}-(0[1-9]|1[0-2])", value):
        raise click.BadParameter(f"{value} is no month; write it as 2026-11")
    if value is not None and value > periods()[1]:
        raise click.BadParameter(f"{value} is in the future; this month (UTC) is {periods()[1]}")
    return value


@click.command(name="spend")
@click.option("--month", callback=_month, metavar="YYYY-MM", help="Another month, without today. Kept for 400 days.")
@click.option("--csv", is_flag=True, help="Print it as CSV: period, kind, name, usd, budget_usd.")
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def command(month: str | None, csv: bool, as_json: bool) -> None:
    """Show what was spent on OpenAI today and this month (UTC), for each payer and model, beside the budgets (BUDGETS).

    Redis counts each call. Sums of the database fill what Redis has lost, but for models.
    """
    if csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    settings = load()
    shown, reserved = asyncio.run(_look(settings, [month] if month else list(periods())))
    rows = [row for spent in shown for row in _rows(spent, Limits(settings.budgets))]
    if as_json:
        click.echo(json.dumps({"rows": rows, "reserved_usd": float(reserved)}))
    elif csv:
        click.echo(as_csv(["period", "kind", "name", "usd", "budget_usd"], rows), nl=False)
    else:
        _print(rows, reserved)


async def _look(settings: Settings, names: list[str]) -> tuple[list[Spent], Decimal]:
    async with opened_redis(settings) as redis, opened_database(settings) as database:
        view = SpendView(redis, Limits(settings.budgets))
        for name in names:
            try:
                await view.raise_to(name, database)
            except ServiceUnavailable as error:
                click.echo(f"Only what Redis has counted: {error}", err=True)
        return [await view.spent(name) for name in names], await view.reserved()


def _rows(spent: Spent, limits: Limits) -> list[dict[str, Any]]:
    kind = "day" if spent.period.count("-") > 1 else "month"
    unspent = [scope for scope in limits.budgets if scope not in (ALL, STORE) and scope not in spent.usd]
    payers = [(ALL, spent.usd.get(ALL, Decimal(0))), *spent.payers(), *((scope, Decimal(0)) for scope in unspent)]
    rows = [("payer", name, usd, getattr(limits.of(name), kind)) for name, usd in payers]
    rows += [("model", name, usd, None) for name, usd in spent.models()]
    return [
        {
            "period": spent.period,
            "kind": what,
            "name": name,
            "usd": float(usd),
            "budget_usd": None if budget is None else float(budget),
        }
        for what, name, usd, budget in rows
    ]


def _print(rows: list[dict[str, Any]], reserved: Decimal) -> None:
    shown = table("period (UTC)", "for", "name", numbers=("USD", "of budget"))
    for row in rows:
        shown.add_row(row["period"], row["kind"], row["name"], f"{row['usd']:.2f}", _share(row))
    Console().print(shown)
    click.echo(f"Calls in flight have reserved {reserved:.2f} USD.")


def _share(row: dict[str, Any]) -> str:
    budget = row["budget_usd"]
    if budget is None:
        return "-"
    return f"{row['usd'] / budget:.0%} of {budget:g}" if budget else "100% of 0"
