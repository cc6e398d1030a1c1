"""The regular purge: one instance for all, its result as metrics. No failure of a purge ends the container."""

import asyncio
import time

from redis.asyncio import Redis

from worker.generation.data_life.lock import PurgeUnderWay, exclusive
from worker.generation.data_life.purge import Purge, Report
from worker.generation.data_life.record import Record
from worker.generation.rounds import Rounds
from worker.logs import get_logger
from worker.metrics import counter, gauge

log = get_logger(__name__)

_CHECK_SECONDS = 60.0
#: Between the end of a purge and the next one.
_INTERVAL_SECONDS = 600.0
_FAILURES = counter("wearon_data_life_failures_total", "Purges that did not reach their end, and pictures that stayed.")
_OBJECTS = counter("wearon_data_life_deleted_objects_total", "Pictures that the regular purge has deleted.")
_BYTES = counter("wearon_data_life_deleted_bytes_total", "Their bytes.")
_ROWS = counter("wearon_data_life_expired_rows_total", "Session rows that lost their pictures' addresses.")
_LIMIT = gauge("wearon_data_life_limit_seconds", "Age at which data is deleted; 0: never.")


class DataLifeSchedule:
    """Purges nothing when DATA_LIFE_HOURS is 0."""

    def __init__(self, purge: Purge, record: Record, redis: Redis, hours: int) -> None:
        self._purge = purge
        self._record = record
        self._redis = redis
        self._hours = hours
        self._rounds = Rounds("purge_failed")
        _LIMIT.set(hours * 3600)

    async def run_forever(self) -> None:
        """Purge ten minutes after the last purge, unless another instance does; an interrupted purge is continued."""
        while True:
            await self.purge_if_due()
            await asyncio.sleep(_CHECK_SECONDS)

    async def purge_if_due(self) -> None:
        """Purge once; count a failure, and log the first one of a row."""
        try:
            if self._hours and time.time() - (await self._record.result()).time >= _INTERVAL_SECONDS:
                await self._run()
        except PurgeUnderWay:
            return
        except Exception as error:  # an odd row or answer must not end the container
            _FAILURES.inc()
            self._rounds.failed(error)

    async def _run(self) -> None:
        report = Report(dry_run=False)
        try:
            async with exclusive(self._redis) as check:
                await self._purge.run(report, check)
        finally:
            pictures = report.pictures
            _OBJECTS.inc(pictures.objects)
            _BYTES.inc(pictures.bytes)
            _ROWS.inc(report.rows.rows)
            _FAILURES.inc(pictures.failures)
        self._rounds.succeeded()
        log.info(
            "purge_ended",
            objects=pictures.objects,
            bytes=pictures.bytes,
            in_use=pictures.in_use,
            failures=pictures.failures,
            rows=report.rows.rows,
            dead_letters=report.redis.letters,
            seconds=round(report.seconds, 1),
        )
