"""The sandbox and a worker as in production, each on its cores."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench import machine
from tests.bench.meter import Meter, tree
from tests.bench.photos import photo
from tests.integration.worker_process import WorkerProcess
from tests.sandbox import Sandbox

#: Different pictures, so that no cache of a picture helps.
_PHOTOS = 4


@dataclass
class World:
    """The sandbox with a worker that is not started yet."""

    sandbox: Sandbox
    worker: WorkerProcess
    photos: list[str]

    def start_worker(self) -> None:
        """Start the worker on its cores; returns when the worker is ready."""
        with machine.on(machine.cores()[0]):
            self.worker.start()

    def meter(self) -> Meter:
        """A meter of both sides."""
        return Meter(self.worker.process.pid, list(self.sandbox.pids().values()), self.worker.url)


@contextmanager
def world(megapixels: float = 12, **environment: str) -> Iterator[World]:
    """A fresh sandbox with photos, this process on its cores, and a worker with these settings."""
    _, apart = machine.cores()
    pictures = [photo(megapixels, seed) for seed in range(_PHOTOS)]
    with machine.on(apart), Sandbox() as sandbox:
        machine.pin(tree(list(sandbox.pids().values())), apart)
        # Only the record of a call is of interest, not the pictures in it.
        sandbox.openai.set(keep_images=0)
        urls = [sandbox.photos.put(f"phone-{number}.jpg", data) for number, data in enumerate(pictures)]
        worker = WorkerProcess(sandbox, **environment)
        try:
            yield World(sandbox, worker, urls)
        finally:
            if hasattr(worker, "process"):
                worker.kill()
