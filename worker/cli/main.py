"""The `wearon-worker` command. Each subcommand's module is imported only when it is used."""

from importlib import import_module
from typing import Any

import click

from worker import __version__
from worker.errors import WorkerError

#: Modules of this package, each with a `command`, and the line that --help shows without importing them.
_COMMANDS = {
    "audit": "Prove the books from the ledgers; exit code 0 only when they are right.",
    "bulk": "Queue, follow and cancel many try-ons of one store that wait for all shoppers.",
    "dead": "List, show, replay or drop messages that could not be used.",
    "doctor": "Check everything that the worker needs, a line each.",
    "enqueue": "Queue a try-on from two pictures and follow it.",
    "estimate": "Estimate measurements and the size from a photo, a weight or both.",
    "intake": "Pause or resume taking messages from the queue.",
    "outcomes": "List, show, retry or drop outcomes that the database rejects.",
    "prompts": "Show and compare prompt versions, pause or resume one of an experiment.",
    "purge": "Delete what is older than DATA_LIFE_HOURS, or everything of one user or store.",
    "queue": "Show the lanes: what waits and runs for each payer; move all to another region.",
    "region": "List regions, or take over the sessions of one that is gone.",
    "run": "Run the worker: queue, size API and health in one process group, until SIGTERM.",
    "schema": "Print the message's JSON Schema or TypeScript type, or the size API's OpenAPI document.",
    "spend": "Show what OpenAI costs, by payer and model, beside the budgets.",
    "webhook": "Manage stores' callbacks: endpoints, secrets, deliveries.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"worker.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wearon-worker")
def cli() -> None:
    """WearOn virtual try-on worker."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake is one line on stderr and exit code 1 or 2, never a traceback."""
    try:
        return cli.main(args=arguments, prog_name="wearon-worker")
    except WorkerError as error:
        click.echo(f"wearon-worker: {error}", err=True)
        return 1
