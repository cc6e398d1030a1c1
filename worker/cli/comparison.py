"""The comparison of `wearon-worker prompts compare`: the time it looks at, its rows, and how they are shown."""

import math
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.table import Table

from worker.cli.options import opened_database
from worker.generation.prompts.tally import KEPT_DAYS, tally
from worker.prompts.intervals import Interval
from worker.prompts.results import Results, note
from worker.settings import Settings

_HEADINGS = ("version", "sessions", "success", "moderation", "seconds", "USD", "")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Since(click.ParamType[datetime]):
    """A time back from now (30m, 24h, 7d), or a moment in ISO 8601."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment, no longer ago than the database keeps the ends of sessions."""
        now = datetime.now(UTC)
        try:
            span = re.fullmatch(r"([0-9]{1,6})([mhd])", value)
            moment = now - timedelta(**{_UNITS[span[2]]: int(span[1])}) if span else datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value} is neither a span like 30m, 24h or 7d nor a moment like 2026-12-01T08:00.", param, ctx)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if moment < now - timedelta(days=KEPT_DAYS, minutes=1):
            self.fail(f"{value} is too long ago; the ends of sessions are kept for {KEPT_DAYS} days.", param, ctx)
        if moment > now:
            self.fail(f"{value} is in the future.", param, ctx)
        return moment


async def compared(settings: Settings, since: datetime, store: UUID | None) -> dict[str, Any]:
    """The control, and the results of each version with what they show beside it."""
    async with opened_database(settings) as database:
        found = await tally(database, since, store)
    experiment = settings.experiment
    rows = []
    for version, results in found.items():
        control = experiment.control_of(version)
        text = note(results, found.get(control, Results(control)) if control else None)
        rows.append(_row(results, "control" if version == experiment.control else text))
    span = {"since": since.isoformat(), "store": str(store) if store else None}
    return {**span, "control": experiment.control, "versions": rows}


def show(rows: list[dict[str, Any]]) -> None:
    """One line for each version."""
    if not rows:
        click.echo("No session has asked for a picture in this time.")
        return
    table = Table(box=None, pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=heading == "version")
    for row in rows:
        shares = (_range(row[name], 100) + " %" for name in ("success", "moderation"))
        means = (_range(row["seconds"]), _range(row["cost_usd"], digits=4))
        table.add_row(row["version"], str(row["ended"]), *shares, *means, row["note"])
    Console(highlight=False, markup=False).print(table)


def _row(results: Results, text: str) -> dict[str, Any]:
    return {
        "version": results.version,
        **{name: getattr(results, name) for name in ("ended", "completed", "blocked")},
        **{measure: _limits(interval) for measure, interval in results.estimates.items()},
        "enough_data": results.is_enough,
        "note": text,
    }


def _limits(interval: Interval) -> dict[str, float | None]:
    """Replace NaN and infinity, which JSON does not have, by None."""
    return {name: number if math.isfinite(number) else None for name, number in asdict(interval).items()}


def _range(limits: dict[str, float | None], factor: float = 1, digits: int = 1) -> str:
    low, value, high = (None if number is None else f"{factor * number:.{digits}f}" for number in limits.values())
    return f"{value} ({low}-{high})" if value and low and high else value or "-"
