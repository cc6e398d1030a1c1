"""The step that costs money: one picture from OpenAI, with the retries and the end that a pause asks for."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from worker.errors import GenerationError, Paused, Postponed, RateLimited, ServiceOutage
from worker.generation import metrics
from worker.generation.openai import metrics as openai_metrics
from worker.generation.openai.edit import Edit, PictureUnreadable
from worker.generation.openai_images import ImageEditor
from worker.generation.pauses.breaker import Breaker
from worker.generation.pauses.pauses import OPENAI, STORAGE
from worker.generation.pipeline.expiry import Expiry
from worker.generation.pipeline.probes import Probes
from worker.generation.pipeline.starts import Starts
from worker.generation.prompts.choice import PromptChoice
from worker.generation.retrying import until_available
from worker.generation.run import Run, SessionTaken
from worker.generation.sessions.marks import Stage
from worker.generation.sessions.sessions import Sessions
from worker.generation.spend.spend import Spend
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)


@dataclass(eq=False, repr=False)
class PaidCall:
    """Edits a session's pictures into one."""

    settings: Settings
    editor: ImageEditor
    sessions: Sessions
    starts: Starts
    expiry: Expiry
    breaker: Breaker
    probes: Probes
    prompts: PromptChoice
    spend: Spend

    async def edit(self, run: Run, pictures: list[bytes]) -> Edit:
        """The picture; its cost is reserved until `count`. Raises GenerationError, BudgetExhausted among them.

        An answer without a usable picture is paid for, too, and counted here.
        """
        try:
            await self.spend.reserve(run.message, self.editor.models.in_use)  # may be cancelled after Redis did it
            return await self._edit(run, pictures)
        except PictureUnreadable as error:
            await self.count(run, error.edit)
            raise
        except BaseException as error:
            # A call that is cancelled may have been paid: its reservation counts as spent once it is overdue.
            if isinstance(error, Exception) or run.stage is Stage.STARTED:
                await self.spend.release(run.message)
            raise

    async def count(self, run: Run, edit: Edit) -> None:
        """Count the cost of the picture; a session that fails now tells it all the same."""
        openai_metrics.spent(run.message.channel, edit.model, edit.input_tokens, edit.output_tokens, edit.cost_usd)
        if edit.cost_usd is not None:
            run.facts["cost_usd"] = float(edit.cost_usd)
        await self.spend.count(run.message, edit.model, edit.cost_usd)

    async def _edit(self, run: Run, pictures: list[bytes]) -> Edit:
        """The picture; after a first 429 the session is queued again for a while and the call made once more."""
        try:
            return await self._call(run, pictures)
        except RateLimited as error:
            await self.starts.note_unpaid(run)
            wait = max(self.settings.rate_limit_retry_seconds, error.retry_after)
            wait = min(wait, self.settings.rate_limit_retry_max_seconds)
            metrics.REQUEUED.labels(error.reason).inc()
            log.warning("generation_requeued", reason=error.reason, wait_seconds=wait, detail=str(error))
        await until_available(self.sessions.requeue, run.message.session)
        await asyncio.sleep(wait)
        await self.starts.restart(run)
        return await self._call(run, pictures)

    async def _call(self, run: Run, pictures: list[bytes]) -> Edit:
        """Make the paid call with its retries. A probe ends sooner, and ends the pause once its reason is gone."""
        prompt = await self.prompts.choose(run)
        try:
            async with asyncio.timeout(None) as limit:
                run.attempt.stop = partial(_expire_in, limit, 0)
                edit = await self.editor.edit(
                    pictures,
                    prompt,
                    partial(self._before_request, run, limit),
                    run.step,
                    on_failure=partial(self.starts.note_unpaid, run),
                )
        except TimeoutError:
            if not limit.expired():
                raise
            raise await self._stopped(run) from None
        except GenerationError as error:
            # Any answer shows that OpenAI is there; only a picture shows that it has taken the account again.
            if run.probe == OPENAI and run.attempt.available and not isinstance(error, Postponed):
                await self.probes.succeeded(run)
            raise
        finally:
            run.attempt.stop = None
        if run.probe != STORAGE:
            await self.probes.succeeded(run)
        return edit

    async def _before_request(self, run: Run, limit: asyncio.Timeout) -> None:
        """Stop here if this process stood still so long that another worker may have made the request."""
        await self.expiry.check(run.message)
        if run.stage is Stage.STARTED and not run.checked:
            run.checked = True
            await self.starts.check_open(run)
        if not await self.starts.note_call(run):
            log.warning("message_dropped", why="another worker took the session over")
            raise SessionTaken
        run.facts["model"] = self.editor.models.in_use  # the session counts for its prompt from here on
        run.attempt.waiting = True
        if run.probe:
            _expire_in(limit, self.settings.probe_limit_seconds)

    async def _stopped(self, run: Run) -> Postponed:
        """Return the error of a call that was stopped: a late probe, or a failed call that a pause does not retry."""
        run.attempt.stop = None
        if run.attempt.waiting:
            await self.breaker.answered(available=False)
            return ServiceOutage(OPENAI, f"no answer within {self.settings.probe_limit_seconds:g} s")
        if run.probe:
            return ServiceOutage(OPENAI, "the probe's call failed")
        return Paused(OPENAI, "OpenAI failed, and the intake is paused")


def _expire_in(limit: asyncio.Timeout, seconds: float) -> None:
    with suppress(RuntimeError):  # it is expiring already
        limit.reschedule(asyncio.get_running_loop().time() + seconds)
