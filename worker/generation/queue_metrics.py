"""Metrics of Redis, the same for every instance and read at the scrape: take `max()` over instances."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.core import GaugeMetricFamily as Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable
from worker.generation import keys
from worker.generation.audit import result as audit_result
from worker.generation.data_life.record import Result, purge_metrics
from worker.generation.limiter import Limiter
from worker.generation.message import MAX_MESSAGE_BYTES, timestamp
from worker.generation.pauses.metrics import pause_metrics
from worker.generation.pauses.pauses import Pause
from worker.generation.prompts.view import PromptView
from worker.generation.queue.claims import Claims
from worker.generation.queue.lane_metrics import lane_metrics
from worker.generation.queue.lane_view import LaneView, estimated_waits
from worker.generation.queue.lanes import Rules
from worker.generation.spend.view import SpendView
from worker.prompts.experiment import Experiment

_PATIENCE_SECONDS = 1.0
_LIMITER_UP = "1 while the Redis that counts the calls to OpenAI answers."
#: Messages at the taking end; one of them is the oldest, though some may have been requeued behind it.
_END = 5
#: One command for all counts. Of the oldest messages only the field `created_at` is read, if they can be used at all.
_LOOK = """
local queued, made = redis.call('LLEN', KEYS[1]), {}
if queued > 0 then
  for _, message in ipairs(redis.call('LRANGE', KEYS[1], -ARGV[1], -1)) do
    local found = #message <= tonumber(ARGV[2]) and not string.find(message, '"priority"%s*:%s*"bulk"')
        and string.match(message, '"created_at"%s*:%s*"([^"]*)"')
    if found then table.insert(made, found) end
  end
end
return {queued, made, redis.call('LLEN', KEYS[2]), redis.call('LLEN', KEYS[3]), redis.call('HLEN', KEYS[4]),
        redis.call('HLEN', KEYS[5]), redis.call('MGET', KEYS[6], KEYS[7], KEYS[8], KEYS[9])}
"""


class Shared:
    """Reads the values; connects to nothing before."""

    def __init__(
        self,
        redis: Redis,
        claims: Claims,
        limiter: Limiter,
        spend: SpendView,
        experiment: Experiment = Experiment(),  # noqa: B008  # frozen
        rules: Rules = Rules(),  # noqa: B008  # frozen
    ) -> None:
        self._redis: Any = redis  # redis-py's annotations know only text
        self._claims = claims
        self._limiter = limiter
        self._spend = spend
        self._lanes, self._rules = LaneView(redis), rules
        self._prompts = PromptView(experiment, redis)
        self._look = redis.register_script(_LOOK)

    async def read(self) -> list[Metric]:
        """All metrics, or none when Redis does not answer in time."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                shared = [*await self._counts(), *await self._limit()]
                return [*shared, *await self._prompts.read(), *await self._spend.metrics()]
        except (RedisError, OSError, ServiceUnavailable):
            return []

    async def _counts(self) -> list[Metric]:
        lists = [keys.QUEUE, keys.claimed(self._claims.instance), keys.DEAD, keys.SETTLEMENTS, keys.REJECTED]
        values = [keys.AUDIT, keys.DEAD_DROPPED, keys.PAUSE, keys.DATA_LIFE]
        queued, end, claimed, dead, waiting, rejected, (audit, dropped, kept, purged) = await self._look(
            keys=[*lists, *values], args=[_END, MAX_MESSAGE_BYTES]
        )
        lanes = await self._lanes.look(self._names(), _END)
        others = [lane for lane in lanes if not lane.is_bulk]
        messages = max(0, queued - _END) + sum(lane.waiting for lane in others)
        oldest = max([_age(end), *(lane.age for lane in others)])
        return [
            *lane_metrics(lanes, estimated_waits(lanes, self._rules)),
            *audit_result.metrics(audit),
            *purge_metrics(Result.read(purged)),
            Gauge("wearon_queue_messages", "Messages that wait, without bulk.", messages),
            Gauge("wearon_queue_oldest_message_age_seconds", "Age of the oldest of them.", oldest),
            Gauge("wearon_dead_letters", "Dead letters that are kept.", dead),
            CounterMetricFamily(
                "wearon_dead_letters_dropped", "Dead letters that made room for newer ones.", _number(dropped)
            ),
            Gauge("wearon_settlements_waiting", "Outcomes that the database does not have yet.", waiting),
            Gauge("wearon_settlements_rejected", "Outcomes that the database rejects for good.", rejected),
            *pause_metrics(Pause.read(kept)),
            *await self._instances(claimed),
        ]

    def _names(self) -> list[str]:
        """Names of this instance and of the others that the last sweep saw."""
        return [self._claims.instance, *(other.name for other in self._claims.neighbours)]

    async def _instances(self, claimed: int) -> list[Metric]:
        """Metrics of this instance, which has `claimed` messages, and of the others that the last sweep saw."""
        others = self._claims.neighbours
        if others:
            async with self._redis.pipeline(transaction=False) as pipe:
                for instance in others:
                    pipe.llen(keys.claimed(instance.name))
                claimed += sum(await pipe.execute())
        return [
            Gauge("wearon_claimed_messages", "Messages that instances have taken and not finished.", claimed),
            Gauge("wearon_instances", "Instances that live.", 1 + sum(it.alive for it in others)),
        ]

    async def _limit(self) -> list[Metric]:
        """The use of the account; a limiter of all regions may be away while this region's Redis answers."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS / 2):
                usage = await self._limiter.usage()
        except (ServiceUnavailable, TimeoutError):
            return [Gauge("wearon_limiter_up", _LIMITER_UP, 0)]
        return [
            Gauge("wearon_limiter_up", _LIMITER_UP, 1),
            Gauge("wearon_openai_limit_calls", "Calls of the whole account within the last minute.", usage.calls),
            Gauge("wearon_openai_limit_waiting", "Calls that wait for their turn.", usage.waiting),
        ]


def _number(kept: bytes | None) -> int:
    return int(kept) if kept and kept.isdigit() else 0


def _age(moments: list[bytes]) -> float:
    """Age of the oldest message; a message without a moment is refused when it is taken."""
    made = []
    for moment in moments:
        with suppress(ValueError, OverflowError):
            made.append(timestamp(moment.decode()).timestamp())
    return max(0.0, time.time() - min(made)) if made else 0.0
