"""The rounds of the sweep: first messages that this instance has lost sight of, then stuck sessions everywhere."""

import asyncio
from dataclasses import dataclass

from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable
from worker.generation import odd
from worker.generation.queue.consumer import Consumer
from worker.generation.queue.heartbeat import Heartbeat
from worker.generation.sweep.sweep import Sweeper
from worker.health import Health
from worker.logs import get_logger

log = get_logger(__name__)


@dataclass(eq=False, repr=False)
class SweepSchedule:
    """`run_forever` is the supervisor's part "sweeper"."""

    sweeper: Sweeper
    consumer: Consumer
    heartbeat: Heartbeat
    health: Health
    interval_seconds: float

    async def run_forever(self) -> None:
        """Sweep after each interval; an outage only skips a round."""
        while True:
            await asyncio.sleep(self.interval_seconds)
            self.health.beat("sweeper")
            try:
                await self.sweep()
            except (RedisError, OSError, ServiceUnavailable) as error:
                log.warning("sweep_failed", error=str(error))
            except Exception as error:
                odd.note("part", "sweeper", error)
            self.health.beat("sweeper")

    async def sweep(self) -> None:
        """Sweep once, but not soon after an outage, which this round may be the first to notice."""
        if await self.heartbeat.beat():
            await self.consumer.reforward()
            await self.sweeper.sweep()
