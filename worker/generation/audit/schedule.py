"""The regular audit: one instance for all, its result as a metric."""

import asyncio

from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.errors import ServiceUnavailable
from worker.generation import keys, queue_metrics
from worker.generation.audit.proof import audit
from worker.logs import get_logger

log = get_logger(__name__)

_CHECK_SECONDS = 60.0


class AuditSchedule:
    """No audits with an interval of 0."""

    def __init__(self, database: AsyncPostgrestClient, redis: Redis, interval_seconds: int) -> None:
        self._database = database
        self._redis = redis
        self._interval_seconds = interval_seconds

    async def run_forever(self) -> None:
        """Prove the books once per interval, unless another instance has."""
        while True:
            try:
                await self._audit_if_due()
            except (RedisError, OSError, ServiceUnavailable) as error:
                log.warning("audit_failed", error=str(error))
            except Exception:
                # One odd row must not end the container.
                log.exception("audit_failed")
            await asyncio.sleep(min(_CHECK_SECONDS, self._interval_seconds or _CHECK_SECONDS))

    async def _audit_if_due(self) -> None:
        interval = self._interval_seconds
        if interval and await self._redis.set(keys.AUDIT_LOCK, 1, nx=True, ex=interval):
            report = await audit(self._database, self._redis)
            await queue_metrics.keep_audit(self._redis, report)
            show = log.info if report.right else log.error
            show("audit_ended", right=report.right, drift=report.drift, seconds=round(report.seconds, 1))
