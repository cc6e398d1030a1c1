"""The `wearon-worker` command. Each subcommand's module is imported only when it is used."""

import json
import math
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from worker import __version__
from worker.errors import WorkerError

#: Subcommands beside their logic: name -> module:attribute, and the line that --help shows without importing them.
_ELSEWHERE = {
    "audit": (
        "worker.generation.audit:command",
        "Prove the books from the ledgers; exit code 0 only when they are right.",
    ),
    "dead": ("worker.generation.dead_command:command", "List, show, replay or drop messages that could not be used."),
    "doctor": ("worker.doctor:command", "Check everything that the worker needs, a line each."),
    "enqueue": ("worker.generation.enqueue:command", "Queue a try-on from two pictures and follow it."),
    "intake": ("worker.generation.intake_command:command", "Pause or resume taking messages from the queue."),
    "estimate": ("worker.sizing.estimate_command:estimate", "Estimate measurements and the size from one photo."),
}


class FiniteRange(click.FloatRange):
    """A number within limits; click's own lets NaN through, which is neither below nor above anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def read_picture(path: Path, max_bytes: int) -> bytes:
    """The file, which may be a pipe, and no more of it than the worker would download; raises WorkerError."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
            size = max(len(data), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise WorkerError(f"{path} cannot be read: {error.strerror}") from None
    if size > max_bytes:
        raise WorkerError(f"{path} has {size:,} bytes; the limit is {max_bytes:,}")
    return data


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _ELSEWHERE:
            return super().get_command(ctx, name)
        module, attribute = _ELSEWHERE[name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {name: command.get_short_help_str(80) for name, command in self.commands.items()}
        rows = sorted({**own, **{name: text for name, (_, text) in _ELSEWHERE.items()}}.items())
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wearon-worker")
def cli() -> None:
    """WearOn virtual try-on worker."""


@cli.command()
def run() -> None:
    """Run the worker: queue, size API and health in one process group, until SIGTERM."""
    from worker import logs, settings  # noqa: PLC0415  # only this command needs them
    from worker.generation import pool  # noqa: PLC0415

    try:
        loaded = settings.load()
    except WorkerError as error:
        # Whoever reads the container's lines reads JSON, from the first one on.
        logs.configure("INFO", "supervisor")
        logs.get_logger(__name__).critical("worker_ended", reason=str(error))
        raise SystemExit(1) from None
    logs.configure(loaded.log_level, "supervisor")
    child = pool.start()
    from worker import supervisor  # noqa: PLC0415  # takes as long as the child's own modules, on another core

    raise SystemExit(supervisor.run(loaded, child))


@cli.command()
@click.option("--format", "kind", type=click.Choice(["json", "typescript"]), default="json", show_default=True)
def schema(kind: str) -> None:
    """Print the queue message's JSON Schema, or the producer's TypeScript type."""
    from worker.generation import message, typescript  # noqa: PLC0415  # only this command needs them

    text = typescript.message_type() if kind == "typescript" else json.dumps(message.json_schema(), indent=2)
    click.echo(text)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake is one line on stderr and exit code 1 or 2, never a traceback."""
    try:
        return cli.main(args=arguments, prog_name="wearon-worker")
    except WorkerError as error:
        click.echo(f"wearon-worker: {error}", err=True)
        return 1
