"""`wearon-worker doctor`: a line for each check."""

import asyncio
import json
import time
from dataclasses import asdict

import click

from worker.doctor.examination import examine
from worker.doctor.result import Result, fail, healthy
from worker.errors import SettingsError
from worker.settings import load

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def command(as_json: bool) -> None:
    """Check everything that the worker needs, a line each; nothing is changed anywhere.

    Exit code 0 when nothing failed (warnings are allowed), else 1.
    """
    begun = time.monotonic()
    try:
        results = asyncio.run(examine(load()))
    except SettingsError as error:
        results = [fail("settings", str(error), "set it in the worker's environment")]
    if as_json:
        checks = [asdict(result) for result in results]
        seconds = round(time.monotonic() - begun, 2)
        click.echo(json.dumps({"healthy": healthy(results), "seconds": seconds, "checks": checks}, indent=2))
    else:
        for result in results:
            click.echo(_line(result))
    raise SystemExit(0 if healthy(results) else 1)


def _line(result: Result) -> str:
    remedy = f"  ->  {result.remedy}" if result.remedy else ""
    return f"{click.style(f'{result.status:<5}', fg=_COLOURS[result.status])} {result.name:<18} {result.what}{remedy}"
