"""The watch over the experiment: pauses a version that OpenAI's moderation blocks far more often than the control.

One instance for all. The results come from the database, which counts each session once, whatever becomes of workers.
"""

import asyncio
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime

from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from worker.generation import keys
from worker.generation.prompts.pauses import PromptPauses, State
from worker.generation.prompts.tally import tally
from worker.generation.room import insist
from worker.generation.rounds import Rounds
from worker.logs import get_logger
from worker.prompts.experiment import Experiment
from worker.prompts.results import Results

log = get_logger(__name__)

_CHECK_SECONDS = 15.0
_LOCK_SECONDS = 10
#: A version is judged by its sessions of the last day, or since an operator resumed it.
WINDOW_SECONDS = 24 * 3600


class PromptWatch:
    """Does nothing without an experiment."""

    def __init__(self, experiment: Experiment, database: AsyncPostgrestClient, redis: Redis) -> None:
        self._experiment = experiment
        self._database = database
        self._redis = redis
        self._pauses = PromptPauses(redis)
        self._rounds = Rounds("prompt_watch_failed")

    async def run_forever(self) -> None:
        """Look at the results every 15 s, unless another instance does."""
        while True:
            await self.look_if_due()
            await asyncio.sleep(_CHECK_SECONDS)

    async def look_if_due(self) -> None:
        """Look once; log the first failure of a row. No failure ends the container."""
        try:
            if self._experiment and await self._is_due():
                await self.look()
                self._rounds.succeeded()
        except Exception as error:
            self._rounds.failed(error)

    async def look(self) -> None:
        """Pause each version that must not go on, and keep the results for the metrics."""
        states, now = await self._pauses.states(), time.time()
        found = await self._since(now - WINDOW_SECONDS)
        for version in self._experiment.versions:
            state = states.get(version, State())
            control = self._experiment.control_of(version)
            if control is None or state.paused:
                continue
            judged = found if state.since <= now - WINDOW_SECONDS else await self._since(state.since)
            ours, theirs = (judged.get(name, Results(name)) for name in (version, control))
            if ours.must_pause(theirs):
                await self._pause(ours, theirs, state)
        for version in self._experiment.versions:
            kept = json.dumps(asdict(found.get(version, Results(version))))
            await insist(self._redis, "HSET", keys.PROMPT_RESULTS, version, kept)

    async def _is_due(self) -> bool:
        try:
            return bool(await self._redis.set(keys.prompt_lock(self._experiment.name), 1, nx=True, ex=_LOCK_SECONDS))
        except OutOfMemoryError:  # a full Redis keeps no lock; each instance looks then
            return True

    async def _since(self, moment: float) -> dict[str, Results]:
        return await tally(self._database, datetime.fromtimestamp(moment, UTC))

    async def _pause(self, ours: Results, theirs: Results, before: State) -> None:
        figures = (
            f"moderation blocked {ours.blocked} of {ours.ended}, "
            f"of the control {theirs.version} {theirs.blocked} of {theirs.ended}"
        )
        if not await self._pauses.set(ours.version, before, figures, paused=True):
            return
        log.error(
            "prompt_paused",
            prompt_version=ours.version,
            blocked=ours.blocked,
            ended=ours.ended,
            control=theirs.version,
            control_blocked=theirs.blocked,
            control_ended=theirs.ended,
            effect="its sessions get the control until `wearon-worker prompts resume`",
        )
