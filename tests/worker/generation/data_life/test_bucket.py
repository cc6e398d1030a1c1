"""Storage's real answers: errors are waited out, half a removal is repeated, and refusals end the purge."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.sandbox import Sandbox
from tests.sandbox.sandbox import BUCKET
from worker import clients
from worker.errors import ServiceUnavailable
from worker.generation.data_life import bucket as module
from worker.generation.data_life.bucket import Bucket, BucketRefused
from worker.settings import Settings

NAMES = [f"uploads/u/{number}.jpg" for number in range(8)]
AWAY = ["too_many_requests", "storage_slow_down", "storage_database_timeout", "project_paused", "drop_before"]


@pytest.fixture
async def bucket(sandbox: Sandbox, settings: Settings) -> AsyncIterator[Bucket]:
    sandbox.gateway.plant(BUCKET, [(name, 3600, 5) for name in NAMES])
    async with clients.http_client(httpx.Timeout(5), connections=2) as http:
        yield Bucket(clients.storage_client(settings, http), BUCKET, 1000)


@pytest.mark.parametrize("fault", AWAY)
async def test_an_outage_is_waited_out(sandbox: Sandbox, bucket: Bucket, fault: str) -> None:
    sandbox.gateway.fault(fault, on="storage/*", times=1)
    entries, last = await bucket.page("uploads/u/", 0)
    assert ([entry.name for entry in entries], last) == ([name.rsplit("/", 1)[1] for name in NAMES], True)
    sandbox.gateway.fault(fault, on="storage/*", times=1)
    assert await bucket.remove(NAMES) == set(NAMES)
    assert sandbox.gateway.paths(BUCKET) == set()


@pytest.mark.parametrize("fault", ["drop_after", "partial"])
async def test_a_removal_whose_answer_is_lost_or_half_is_done_in_the_end(
    sandbox: Sandbox, bucket: Bucket, fault: str
) -> None:
    sandbox.gateway.fault(fault, on="storage/remove", times=1)
    assert await bucket.remove(NAMES) == set(NAMES)
    assert sandbox.gateway.paths(BUCKET) == set()


async def test_what_is_not_there_was_not_removed_by_this_call(bucket: Bucket) -> None:
    assert await bucket.remove([*NAMES[:2], "uploads/u/other.jpg"]) == set(NAMES[:2])


async def test_a_name_that_storage_refuses_does_not_hold_up_the_others(sandbox: Sandbox, bucket: Bucket) -> None:
    sandbox.gateway.fault("object_too_large", on="storage/remove", contains="/3.jpg")
    assert await bucket.remove(NAMES) == set(NAMES) - {NAMES[3]}
    assert sandbox.gateway.paths(BUCKET) == {NAMES[3]}


@pytest.mark.parametrize("fault", ["bucket_gone", "policy_refused", "signature_refused"])
async def test_a_refusal_of_the_account_ends_the_purge(sandbox: Sandbox, bucket: Bucket, fault: str) -> None:
    sandbox.gateway.fault(fault, on="storage/*")
    with pytest.raises(BucketRefused):
        await bucket.page("uploads/", 0)
    with pytest.raises(BucketRefused):
        await bucket.remove(NAMES)


@pytest.mark.parametrize("body", [None, {}, [{"id": "x"}], [7], "text"])
async def test_an_unusable_answer_deletes_nothing(
    sandbox: Sandbox, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, body: object
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.2)
    sandbox.gateway.fault("replaced", on="storage/list", body=body)
    if body == {}:
        assert await bucket.page("uploads/u/", 0) == ([], True)
    else:
        with pytest.raises(ServiceUnavailable):
            await bucket.page("uploads/u/", 0)
