"""One generation from the claimed message to the settled session: lease, start, steps, settle, within one deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

from worker.errors import DeadlineExceeded, StorageFailed
from worker.generation.byte_budget import ByteBudget
from worker.generation.message import GenerationMessage
from worker.generation.outcome import Outcome
from worker.generation.pauses.breaker import ATTEMPT, Breaker
from worker.generation.pipeline.ends import End, Ends, dropped
from worker.generation.pipeline.probes import Probes
from worker.generation.pipeline.spare import BULK
from worker.generation.pipeline.starts import Starts
from worker.generation.pipeline.steps import Steps
from worker.generation.run import Run
from worker.generation.sessions.leases import Leases
from worker.generation.sessions.marks import Stage
from worker.generation.sessions.settlement import Settlement
from worker.logs import get_logger

log = get_logger(__name__)


@dataclass(eq=False, repr=False)
class Pipeline:
    """Decides how a generation starts and ends; the steps between are `steps`."""

    timeout_seconds: float
    budget: ByteBudget
    picture_max_bytes: int
    leases: Leases
    starts: Starts
    steps: Steps
    settlement: Settlement
    breaker: Breaker
    probes: Probes
    ends: Ends
    wait_for_spare: Callable[[], Awaitable[None]] | None = None
    _interruptible: dict[asyncio.Task[Outcome], Run] = field(default_factory=dict, init=False)
    _releasing: bool = field(default=False, init=False)

    async def generate(self, message: GenerationMessage, payload: bytes, probe: str = "") -> End:
        """Work on the session unless another worker does; returns what becomes of the message.

        `probe` is the reason of the pause that this generation probes, alone of all.
        """
        async with self.probes.alive(str(message.session_id)) if probe else nullcontext():
            lease = await self.leases.acquire(message.session_id)
            if lease is None:
                log.info("duplicate_dropped", why="another worker has the session")
                return dropped()
            run = Run(message, lease, probe)
            try:
                return await self._generate(run, payload)
            finally:
                await self.leases.release(lease, keep_mark=run.keep_mark)

    def release(self) -> None:
        """Requeue what is not paid for, fail and refund calls in flight; a picture that is there is still delivered."""
        self._releasing = True
        for task, run in self._interruptible.items():
            if run.stage is not Stage.PAID:
                task.cancel()

    def preempt(self, count: int) -> None:
        """Requeue the bulk that came last and has paid for nothing, until so many slots are on their way to others."""
        unpaid = {
            task: run
            for task, run in self._interruptible.items()
            if run.message.is_bulk and run.stage is Stage.STARTED and not run.probe
        }
        count -= sum(run.preempted for run in unpaid.values())
        for task, run in [it for it in reversed(unpaid.items()) if not it[1].preempted][: max(0, count)]:
            run.preempted = True
            task.cancel()

    async def _generate(self, run: Run, payload: bytes) -> End:
        ATTEMPT.set(run.attempt)
        BULK.set(run.message.is_bulk)
        work = asyncio.create_task(self._within_budget(run))
        self._interruptible[work] = run
        if self._releasing:
            work.cancel()
        end: Outcome | End
        try:
            end = await work
        except (Exception, asyncio.CancelledError) as error:
            end = await self.ends.of(run, payload, error)
        finally:
            del self._interruptible[work]
        if isinstance(end, End):
            return end
        await self.settlement.settle(end)
        log.info("generation_ended", outcome=end.kind, seconds=run.elapsed_ms / 1000, steps=run.steps)
        return End.FINISHED

    async def _within_budget(self, run: Run) -> Outcome:
        """Wait for spare calls (bulk) and for memory before the deadline begins: the session is still queued."""
        if run.message.is_bulk and run.lease.mark.stage is Stage.STARTED and self.wait_for_spare:
            await self.wait_for_spare()
        async with self.budget.reserve(len(run.message.image_urls), self.picture_max_bytes) as run.memory:
            return await self._within_deadline(run)

    async def _within_deadline(self, run: Run) -> Outcome:
        limit = self.timeout_seconds
        try:
            async with asyncio.timeout(limit) as deadline:
                unpaid = await self.starts.start(run)
                return await (self.steps.make(run) if unpaid else self.steps.rescue(run))
        except TimeoutError:
            if not deadline.expired() or not run.started:
                raise
            if run.attempt.waiting:
                await self.breaker.answered(available=False)
                await self.breaker.failed()
            if run.refused:
                raise StorageFailed(f"storage refused the picture for {limit:g} s: {run.refused}") from None
            raise DeadlineExceeded(f"generation took longer than {limit:g} s") from None
