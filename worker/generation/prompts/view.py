"""Metrics of the experiment: paused versions, and the results of the last day with their limits."""

import json
import math
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from redis.asyncio import Redis

from worker.generation import keys, odd
from worker.generation.prompts.pauses import PromptPauses
from worker.prompts import catalogue
from worker.prompts.experiment import Experiment
from worker.prompts.results import Results


class PromptView:
    """Reads nothing without an experiment, and only the results of its versions. Raises what Redis raises."""

    def __init__(self, experiment: Experiment, redis: Redis) -> None:
        self._experiment = experiment
        self._redis: Any = redis
        self._pauses = PromptPauses(redis)

    async def read(self) -> list[Metric]:
        """Return series of all versions; estimates without results are NaN."""
        paused = GaugeMetricFamily("wearon_prompt_paused", "1 while no session gets this version.", labels=["version"])
        sessions = GaugeMetricFamily("wearon_prompt_sessions", "Sessions of the last day.", labels=["version"])
        estimate = GaugeMetricFamily(
            "wearon_prompt_estimate", "Results of the last day with limits.", labels=["version", "measure", "bound"]
        )
        now, found = (await self._pauses.paused(), await self._results()) if self._experiment else (frozenset(), {})
        for version in catalogue.known_ids():
            results = found.get(version, Results(version))
            paused.add_metric([version], version in now and version in self._experiment.versions)
            sessions.add_metric([version], results.ended)
            for measure, interval in results.estimates.items():
                for bound in ("low", "value", "high"):
                    number = getattr(interval, bound) if results.ended else math.nan
                    estimate.add_metric([version, measure, bound], number if math.isfinite(number) else math.nan)
        return [paused, sessions, estimate]

    async def _results(self) -> dict[str, Results]:
        versions = self._experiment.versions
        found = {}
        for version, kept in zip(versions, await self._redis.hmget(keys.PROMPT_RESULTS, versions), strict=True):
            try:
                found[version] = Results.read(json.loads(kept)) if kept else Results(version)
            except (ValueError, TypeError, KeyError) as error:
                odd.note("value", f"{keys.PROMPT_RESULTS} {version}", error)
        return found
