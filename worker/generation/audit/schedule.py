"""The regular audit: one instance for all, its result as a metric. No failure of an audit ends the container."""

import asyncio

from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis

from worker.generation import keys
from worker.generation.audit import result
from worker.generation.audit.ledger import AuditUnderWay
from worker.generation.audit.proof import audit
from worker.generation.region import Region
from worker.generation.rounds import Rounds
from worker.logs import get_logger
from worker.metrics import counter

log = get_logger(__name__)

_CHECK_SECONDS = 60.0
_FAILURES = counter("wearon_audit_failures_total", "Regular audits that did not reach their end.")


class AuditSchedule:
    """Audits regularly; an interval of 0 turns the audits off."""

    def __init__(
        self, database: AsyncPostgrestClient, redis: Redis, interval_seconds: int, region: Region | None = None
    ) -> None:
        self._database = database
        self._redis = redis
        self._interval_seconds = interval_seconds
        self._region = region
        self._rounds = Rounds("audit_failed")

    async def run_forever(self) -> None:
        """Prove the books once per interval, unless another instance has."""
        while True:
            await self.audit_if_due()
            await asyncio.sleep(min(_CHECK_SECONDS, self._interval_seconds or _CHECK_SECONDS))

    async def audit_if_due(self) -> None:
        """Audit once; count a failure, and log the first one of a row."""
        try:
            interval = self._interval_seconds
            if interval and await self._redis.set(keys.AUDIT_LOCK, 1, nx=True, ex=interval):
                await self._audit()
        except Exception as error:  # an odd row or answer must not end the container
            _FAILURES.inc()
            self._rounds.failed(error)

    async def _audit(self) -> None:
        try:
            report = await audit(self._database, self._redis, region=self._region)
        except AuditUnderWay:
            # An operator's or another region's: its result is not kept in this Redis.
            log.info("audit_skipped", reason="another audit is under way")
            await self._redis.delete(keys.AUDIT_LOCK)
            return
        await result.keep(self._redis, report)
        self._rounds.succeeded()
        show = log.info if report.right else log.error
        found = {kind: count for kind, count in report.counts.items() if count}
        show(
            "audit_ended",
            right=report.right,
            drift=report.drift,
            found=found,
            full=report.full,
            seconds=round(report.seconds, 1),
        )
