"""`wearon-worker run`: the container's process."""

import click

from worker import logs, memory, settings
from worker.errors import WorkerError
from worker.generation.celery.process import CeleryProcess


@click.command(name="run")
def command() -> None:
    """Run the worker: queue, size API and health in one process group, until SIGTERM."""
    try:
        loaded = settings.load()
    except WorkerError as error:
        # The container's log is JSON from its first line on.
        logs.configure("INFO", "supervisor")
        logs.get_logger(__name__).critical("worker_ended", reason=str(error))
        raise SystemExit(1) from None
    celery = CeleryProcess(loaded)
    # Otherwise much of a closed pose model's memory would stay in the arenas of threads.
    memory.tune({"MALLOC_ARENA_MAX": 2})
    logs.configure(loaded.log_level, "supervisor", loaded.region)
    from worker.supervisor import supervisor  # noqa: PLC0415  # while the Celery process loads its own modules on another core

    raise SystemExit(supervisor.run(loaded, celery))
