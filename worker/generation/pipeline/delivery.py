"""Delivery of a paid picture into the bucket; the intake is paused while the storage refuses the picture."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from worker.errors import AccountRefused, ServiceUnavailable
from worker.generation.openai import metrics as openai_metrics
from worker.generation.pauses.pauses import STORAGE
from worker.generation.pipeline.probes import Probes
from worker.generation.retrying import retry_for
from worker.generation.run import Run
from worker.generation.supabase.storage import Storage
from worker.logs import get_logger

log = get_logger(__name__)
T = TypeVar("T")

#: A storage that is away for longer refuses; a probe waits no longer for it, either.
_PATIENCE_SECONDS = 10.0
#: Between two uploads of a picture that the storage refuses.
_MAX_WAIT_SECONDS = 8.0


class Delivery:
    """`deliver` raises StorageFailed when this one picture is refused for good."""

    def __init__(self, storage: Storage, probes: Probes) -> None:
        self._storage = storage
        self._probes = probes

    async def check(self, run: Run) -> None:
        """Prove that the picture could be stored, before it is paid for; raises AccountRefused."""
        try:
            await retry_for(_PATIENCE_SECONDS)(self._storage.check, _path(run))
        except ServiceUnavailable as error:
            raise AccountRefused(STORAGE, str(error)) from error

    async def deliver(self, run: Run, jpeg: bytes) -> str:
        """Store the picture. Return the address that shows the picture."""
        with run.step("upload"):
            await self._patiently(run, lambda: self._storage.upload(_path(run), jpeg))
        openai_metrics.image("out", len(jpeg))
        with run.step("sign"):
            return await self._patiently(run, lambda: self._storage.sign(_path(run)))

    async def find(self, run: Run) -> str | None:
        """The address of the session's picture if an earlier worker has stored it."""
        with run.step("sign"):
            if not await self._patiently(run, lambda: self._storage.has(_path(run))):
                return None
            return await self._patiently(run, lambda: self._storage.sign(_path(run)))

    async def _patiently(self, run: Run, call: Callable[[], Awaitable[T]]) -> T:
        pause = 1.0
        while True:
            try:
                result = await retry_for(_PATIENCE_SECONDS)(call)
            except (AccountRefused, ServiceUnavailable) as error:
                # A storage that is away for longer than moments: no further picture is paid for, either.
                if run.refused is None:
                    log.error("picture_waits_for_storage", reason=STORAGE, detail=str(error))
                run.refused = error
                await self._probes.pause_for_storage(run)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_WAIT_SECONDS)
                continue
            if run.refused or run.probe == STORAGE:
                run.refused = None
                await self._probes.end_for_storage()
            return result


def _path(run: Run) -> str:
    return run.message.channel.picture_path(run.message.owner_id, run.message.session_id)
