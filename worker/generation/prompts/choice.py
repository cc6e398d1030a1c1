"""The choice of a session's prompt just before its paid call; costs no call to Redis once the pauses are known."""

import asyncio

from redis.exceptions import RedisError

from worker.generation import odd
from worker.generation.channel import Channel
from worker.generation.prompts.pauses import PromptPauses
from worker.generation.retrying import until_available
from worker.generation.run import Run
from worker.logs import get_logger
from worker.prompts import catalogue
from worker.prompts.experiment import Choice, Experiment

log = get_logger(__name__)

#: A paused version gets no session after so many seconds.
_LOOK_SECONDS = 5.0


class PromptChoice:
    """`watch_forever` keeps the paused versions up to date; while Redis is away the last known ones count."""

    def __init__(self, experiment: Experiment, pauses: PromptPauses) -> None:
        self._experiment = experiment
        self._pauses = pauses
        self._paused: frozenset[str] | None = None
        self._unknown = ""

    async def choose(self, run: Run) -> str:
        """The text to send; the run's facts name its version."""
        if self._experiment and self._paused is None:
            await until_available(self._look)
        message = run.message
        store = message.store_id if message.channel is Channel.B2B else None
        choice = self._experiment.choose(message.session_id, store, message.prompt, self._paused or frozenset())
        run.facts["prompt_version"] = choice.version
        if self._experiment and choice.version.startswith("message-"):
            self._look_for_defaults(choice)
        return choice.text

    async def watch_forever(self) -> None:
        """Look at the pauses now and then, if there is an experiment."""
        while self._experiment:
            try:
                await self._look()
            except (RedisError, OSError) as error:
                log.warning("prompt_pauses_not_read", error=type(error).__name__)
            except Exception as error:
                odd.note("part", "prompts", error)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        paused = await self._pauses.paused()
        if paused != (self._paused or frozenset()):
            log.info("prompt_pauses_changed", paused=sorted(paused))
        self._paused = paused

    def _look_for_defaults(self, choice: Choice) -> None:
        """Say once that the app may have a new default text, whose sessions would stay out of the experiment."""
        if not self._unknown and catalogue.is_like_the_apps(choice.text):
            self._unknown = choice.version
            log.warning(
                "prompt_default_unknown",
                prompt_version=choice.version,
                effect="these sessions are not part of the experiment; PROMPT_DEFAULTS may name the text",
            )
