"""The regular audit: one instance at a time, and no failure ends the container."""

from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.sandbox import Sandbox
from worker import clients
from worker.errors import CallRejected
from worker.generation import keys
from worker.generation.audit import schedule
from worker.generation.audit.ledger import AuditUnderWay
from worker.generation.audit.report import Report
from worker.generation.audit.schedule import AuditSchedule
from worker.metrics import REGISTRY
from worker.settings import Settings


def failures() -> float:
    return REGISTRY.get_sample_value("wearon_audit_failures_total") or 0


@pytest.mark.parametrize("error", [CallRejected("odd row"), KeyError("kinds"), RuntimeError("anything")])
async def test_a_failed_audit_is_counted_each_time_and_logged_once(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(schedule, "audit", AsyncMock(side_effect=error))
    regular, before = AuditSchedule(AsyncMock(), redis, 60), failures()
    with capture_logs() as logs:
        for _ in range(3):
            await regular.audit_if_due()
            await redis.delete(keys.AUDIT_LOCK)
    assert failures() == before + 3
    assert [line["event"] for line in logs] == ["audit_failed"]


async def test_an_audit_under_way_elsewhere_is_no_failure_and_waited_for(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be another region's, whose result this region's metrics do not show."""
    monkeypatch.setattr(schedule, "audit", AsyncMock(side_effect=[AuditUnderWay("another"), Report()]))
    regular, before = AuditSchedule(AsyncMock(), redis, 60), failures()
    for _ in range(2):
        await regular.audit_if_due()
    assert failures() == before
    assert await redis.exists(keys.AUDIT)


async def test_one_instance_audits_per_interval_and_keeps_the_counts_of_each_kind(
    sandbox: Sandbox, redis: Redis, settings: Settings
) -> None:
    session = sandbox.producer.b2c(push=False)
    sandbox.database.execute("update generation_sessions set status = 'failed'")
    async with httpx.AsyncClient(timeout=15) as http:
        database = clients.database_client(settings, http)
        with capture_logs() as logs:
            for _ in range(2):
                await AuditSchedule(database, redis, 60).audit_if_due()
    ended = [line for line in logs if line["event"] == "audit_ended"]
    assert [line["found"] for line in ended] == [{"failed_not_refunded": 1}]
    kept: Any = await redis.get(keys.AUDIT)
    assert b'"failed_not_refunded": 1' in kept
    assert session.owner_id not in str(logs)
