"""`wearon-worker prompts`: the versions, their results beside each other, and pauses of an experiment's versions."""

import asyncio
import json
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

from worker.cli.comparison import Since, compared
from worker.cli.comparison import show as show_comparison
from worker.cli.options import opened_redis
from worker.errors import WorkerError
from worker.generation.prompts.pauses import PromptPauses, State
from worker.prompts import catalogue
from worker.prompts.experiment import Experiment
from worker.settings import load

_version = click.argument("version", metavar="VERSION")
_json = click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")


@click.group(name="prompts")
def command() -> None:
    """Show and compare prompt versions, pause or resume one of an experiment.

    PROMPT_EXPERIMENT shares the sessions that bring no prompt of their own among versions. The heaviest version is the
    control. The worker pauses a version that OpenAI's moderation blocks twice as often as the control.
    """


@command.command(name="list")
@_json
def list_versions(as_json: bool) -> None:
    """List the versions of this worker, with their weights and pauses."""
    settings = load()
    found = _listed(settings.experiment, asyncio.run(_states()))
    if as_json:
        click.echo(json.dumps({"versions": found}))
        return
    width = max(len(row["version"]) for row in found)
    for row in found:
        click.echo(f"{row['version']:{width}}  {row['date'] or '':10}  {_state(row)}".rstrip())


@command.command()
@_version
def show(version: str) -> None:
    """Print the text of a version."""
    click.echo(catalogue.versions()[_known(version, catalogue.versions())].text)


@command.command()
@click.option("--since", type=Since(), default="7d", show_default=True, help="30m, 24h, 7d, or a moment (ISO 8601).")
@click.option("--store", type=click.UUID, help="Only this store's sessions.")
@_json
def compare(since: datetime, store: UUID | None, as_json: bool) -> None:
    """Compare the results of versions: success, moderation, time and cost, with limits of 95 %.

    Only sessions whose picture was asked for count. `message-...` is a text that came with messages, and `as-sent` any
    text that the experiment left as it came.
    """
    found = asyncio.run(compared(load(), since, store))
    click.echo(json.dumps(found)) if as_json else show_comparison(found["versions"])


@command.command()
@_version
@click.option("--reason", default="by hand", show_default=True, help="Shown by `prompts list`.")
def pause(version: str, reason: str) -> None:
    """Give no session to a version, in all workers; its sessions get the control."""
    asyncio.run(_set(version, reason, paused=True))


@command.command()
@_version
def resume(version: str) -> None:
    """Give sessions to a paused version again; it is judged by its sessions from now on."""
    asyncio.run(_set(version, "resumed", paused=False))


async def _states() -> dict[str, State]:
    async with opened_redis(load()) as redis:
        return await PromptPauses(redis).states()


async def _set(version: str, reason: str, *, paused: bool) -> None:
    async with opened_redis(load()) as redis:
        pauses = PromptPauses(redis)
        states = await pauses.states()
        # Of a version that has left the package a pause may be left.
        before = states.get(_known(version, {*catalogue.known_ids(), *states}), State())
        if before.paused == paused:
            click.echo(f"{version} is {'paused already' if paused else 'not paused'}; nothing has changed")
        elif await pauses.set(version, before, reason, paused=paused):
            click.echo(f"{version} is {'paused' if paused else 'resumed'}; every worker follows within 5 s")
        else:
            raise WorkerError(f"the state of {version} has changed meanwhile; look at `wearon-worker prompts list`")


def _known(version: str, ids: Collection[str]) -> str:
    if version not in ids:
        raise WorkerError(f"the version {version!r} is unknown; this worker has {', '.join(sorted(ids))}")
    return version


def _listed(experiment: Experiment, states: dict[str, State]) -> list[dict[str, Any]]:
    rows = []
    for version in [*catalogue.known_ids(), *sorted(states.keys() - catalogue.known_ids())]:
        prompt, state = catalogue.versions().get(version), states.get(version, State())
        rows.append(
            {
                "version": version,
                "date": prompt.day.isoformat() if prompt else None,
                "weight": experiment.weights.get(version),
                "stores": sum(version in weights for weights in experiment.stores.values()),
                "control": version == experiment.control,
                "paused_since": datetime.fromtimestamp(state.since, UTC).isoformat() if state.paused else None,
                "reason": state.reason if state.paused else None,
            }
        )
    return rows


def _state(row: dict[str, Any]) -> str:
    parts = [f"weight {row['weight']:g}"] if row["weight"] is not None else []
    parts += [f"{row['stores']} stores"] if row["stores"] else []
    parts += ["control"] if row["control"] else []
    parts += [f"paused since {row['paused_since'][:16]}: {row['reason']}"] if row["paused_since"] else []
    return ", ".join(parts)
