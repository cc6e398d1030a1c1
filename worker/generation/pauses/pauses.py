"""The automatic pause of the intake, in Redis for all instances: its reason, its one probe, and past pauses.

A pause ends only by proof. Once its time is over a single message may probe, wherever it runs; every other message
waits until the probe has shown that the reason is gone. Decision: docs/decisions/0009-circuit-breaker.md.
"""

import json
from dataclasses import dataclass
from typing import Self

from redis.asyncio import Redis

from worker.generation import keys, odd
from worker.generation.pauses.scripts import CHANGE, END, MOVE, RESUME, SOON, STOP, TAKE

#: A probe without a sign of life for this long is lost; its holder renews it in a third of the time.
PROBE_SECONDS = 12.0
QUOTA = "quota_exhausted"
OPENAI = "openai_unavailable"
STORAGE = "storage_refused"


@dataclass(frozen=True)
class Pause:
    """The current pause; moments are seconds since 1970 by Redis' clock."""

    reason: str
    since: float
    #: From then on one message may probe.
    probe_at: float
    #: The instance that looks for a message to probe with, or the session that probes; empty: none.
    probe: str

    @classmethod
    def read(cls, kept: object) -> Self | None:
        """The pause that Redis keeps, if there is one."""
        if not isinstance(kept, bytes):
            return None
        try:
            fields = json.loads(kept)
            reason, probe, since, probe_at = (fields[name] for name in ("reason", "probe", "since", "probe_at"))
            if not isinstance(reason, str) or not isinstance(probe, str):
                raise TypeError("reason and probe must be texts")
            if {type(since), type(probe_at)} - {int, float}:  # the scripts take no other for a pause
                raise TypeError("since and probe_at must be numbers")
            return cls(reason, since / 1000, probe_at / 1000, probe)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            odd.note("value", keys.PAUSE, error)
            return None


@dataclass(frozen=True)
class Times:
    """Redis' clock, and every time at which the intake was paused, in seconds since 1970."""

    now: float
    paused: list[tuple[float, float]]
    #: Since when an operator's pause lasts.
    stopped_since: float | None = None

    def paused_since(self, begin: float) -> float:
        """Seconds from `begin` until now during which the intake was paused; pauses at once count once."""
        total, reached = 0.0, begin
        for since, until in sorted(self.paused):
            total += max(0.0, min(until, self.now) - max(since, reached))
            reached = max(reached, until)
        return total


class Pauses:
    """All methods raise what Redis raises."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._change = redis.register_script(CHANGE)
        self._take = redis.register_script(TAKE)
        self._move = redis.register_script(MOVE)
        self._end = redis.register_script(END)
        self._soon = redis.register_script(SOON)
        self._stop = redis.register_script(STOP)
        self._resume = redis.register_script(RESUME)

    async def begin(self, reason: str, seconds: float, session: str) -> bool:
        """Pause, or prolong the pause that `session` probes. Return False if the pause waits for another probe."""
        return bool(await self._change(keys=[keys.PAUSE], args=[reason, int(seconds * 1000), session]))

    async def end(self, *, session: str = "", reason: str = "") -> bool:
        """End the pause if it has this reason and this session probes it. Return True if the pause ended."""
        names = [keys.PAUSE, keys.PAUSES, keys.OPENAI_ANSWERS]
        return bool(await self._end(keys=names, args=[session, reason]))

    async def take_probe(self, instance: str) -> bool:
        """Return True if this instance may take a message: there is no pause, or this one message probes."""
        return bool(await self._take(keys=[keys.PAUSE], args=[instance, int(PROBE_SECONDS * 1000)]))

    async def give_probe(self, instance: str, session: str) -> bool:
        """Make the session of the message that the instance has found the probe."""
        return await self._moved(instance, session)

    async def renew_probe(self, session: str) -> bool:
        """Renew the probe. Return False if another session probes by now."""
        return await self._moved(session, session)

    async def leave_probe(self, session: str) -> bool:
        """End a probe that proved nothing: the next message may probe at once."""
        return await self._moved(session, "")

    async def probe_now(self) -> bool:
        """Let the next message probe at once. Return True if there is a pause."""
        return bool(await self._soon(keys=[keys.PAUSE]))

    async def stop(self, reason: str) -> bool:
        """Begin an operator's pause. Return True if messages were taken until now."""
        return bool(await self._stop(keys=[keys.INTAKE_STOPPED, keys.INTAKE_STOPPED_SINCE], args=[reason]))

    async def resume(self) -> bool:
        """End an operator's pause. Return True if there was one."""
        return bool(await self._resume(keys=[keys.INTAKE_STOPPED, keys.INTAKE_STOPPED_SINCE, keys.PAUSES]))

    async def now(self) -> tuple[str, Pause | None]:
        """An operator's reason (empty: none), and the automatic pause."""
        stopped, kept = await self._redis.mget(keys.INTAKE_STOPPED, keys.PAUSE)
        return stopped.decode(errors="replace") if isinstance(stopped, bytes) else "", Pause.read(kept)

    async def times(self) -> Times:
        """Past pauses that Redis remembers, and the current one."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.mget(keys.PAUSE, keys.INTAKE_STOPPED_SINCE)
            pipe.lrange(keys.PAUSES, 0, -1)
            (seconds, microseconds), (kept, stopped), past = await pipe.execute()
        now = seconds + microseconds / 1e6
        paused = [times for entry in past if (times := _past(entry))]
        if pause := Pause.read(kept):
            paused.append((pause.since, now))
        stopped_since = int(stopped) / 1000 if isinstance(stopped, bytes) and stopped.isdigit() else None
        if stopped_since is not None:
            paused.append((stopped_since, now))
        return Times(now, paused, stopped_since)

    async def _moved(self, holder: str, to: str) -> bool:
        return bool(await self._move(keys=[keys.PAUSE], args=[holder, to, int(PROBE_SECONDS * 1000)]))


def _past(entry: bytes) -> tuple[float, float] | None:
    try:
        since, until = map(int, entry.split())
    except ValueError as error:
        odd.note("value", keys.PAUSES, error)
        return None
    return since / 1000, until / 1000
