"""A generation's part in the automatic pause of the intake: it pauses, probes a pause, and ends the pause by proof."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from worker.errors import Postponed
from worker.generation import metrics
from worker.generation.pauses.pauses import PROBE_SECONDS, STORAGE, Pauses
from worker.generation.retrying import AWAY, until_available
from worker.generation.run import Run
from worker.logs import get_logger

log = get_logger(__name__)

#: A paid picture does not wait longer for Redis to take note of a pause or its end.
_PATIENCE_SECONDS = 2.0


class Probes:
    """`pause_seconds` passes before the first probe of a pause."""

    def __init__(self, pauses: Pauses, pause_seconds: float) -> None:
        self._pauses = pauses
        self._pause_seconds = pause_seconds

    @asynccontextmanager
    async def alive(self, session: str) -> AsyncIterator[None]:
        """Show that the session's probe is alive; however the probe ends, the next message may probe."""
        renewing = asyncio.create_task(self._renew_forever(session))
        try:
            yield
        finally:
            renewing.cancel()
            if await until_available(self._pauses.leave_probe, session):
                metrics.PROBES.labels("unproven").inc()

    async def pause_for(self, run: Run, error: Postponed) -> None:
        """Pause the intake for the error's reason, or prolong the pause that this generation probes."""
        session = str(run.message.session_id)
        if await until_available(self._pauses.begin, error.reason, self._pause_seconds, session):
            log.error("intake_paused", reason=error.reason, probe_in_seconds=self._pause_seconds)

    async def pause_for_storage(self, run: Run) -> None:
        """Pause the intake while a paid picture waits for its storage."""
        await _noted(self._pauses.begin, STORAGE, self._pause_seconds, str(run.message.session_id))

    async def end_for_storage(self) -> None:
        """End a pause for the storage, which has taken a picture."""
        await _noted(self._pauses.end, session="", reason=STORAGE)

    async def succeeded(self, run: Run) -> None:
        """End the pause if this generation is its probe: the reason is gone."""
        if not run.probe:
            return
        if await _noted(self._pauses.end, session=str(run.message.session_id), reason=run.probe):
            log.warning("intake_recovered", reason=run.probe)
            metrics.PROBES.labels("recovered").inc()
        run.probe = ""

    async def _renew_forever(self, session: str) -> None:
        while True:
            with suppress(*AWAY):
                await self._pauses.renew_probe(session)
            await asyncio.sleep(PROBE_SECONDS / 4)


async def _noted(change: Callable[..., Awaitable[bool]], *args: object, **kwargs: object) -> bool:
    """Make a change of the pause; the next probe repeats a change that Redis does not take."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await until_available(change, *args, **kwargs)
    except (*AWAY, TimeoutError) as error:
        log.warning("pause_not_changed", error=type(error).__name__)
        return False
