"""The bucket against real answers of Supabase Storage: each is about the account, the picture, or the moment."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from tests.sandbox import Sandbox
from worker import clients
from worker.errors import AccountRefused, ServiceUnavailable, StorageFailed
from worker.generation.supabase import storage as module
from worker.generation.supabase.storage import Storage
from worker.settings import Settings

ACCOUNT = ("bucket_gone", "policy_refused", "signature_refused", "type_refused", "project_restricted")
AWAY = (
    *("storage_locked", "storage_slow_down", "storage_database_timeout", "too_many_requests", "project_paused"),
    *("drop_before", "drop_after"),
)


@pytest.fixture
async def storage(settings: Settings) -> AsyncIterator[Storage]:
    async with clients.http_client(httpx.Timeout(5), connections=2) as http:
        client = clients.storage_client(settings, http)
        yield Storage(client, settings.supabase_storage_bucket, settings.signed_url_seconds)


@pytest.fixture
def path() -> str:
    return f"generated/{uuid4()}/{uuid4()}.jpg"


@pytest.mark.parametrize("call", ["upload", "sign", "check"])
@pytest.mark.parametrize("answer", ACCOUNT)
async def test_a_refusal_of_every_picture_is_about_the_account(
    sandbox: Sandbox, storage: Storage, path: str, call: str, answer: str
) -> None:
    sandbox.gateway.fault(answer, on="storage/*")
    with pytest.raises(AccountRefused) as error:
        await _called(storage, call, path)
    assert error.value.reason == "storage_refused"
    assert sandbox.objects() == {}


@pytest.mark.parametrize("call", ["upload", "sign", "check"])
@pytest.mark.parametrize("answer", AWAY)
async def test_an_answer_of_the_moment_may_be_asked_for_again(
    sandbox: Sandbox, storage: Storage, path: str, call: str, answer: str
) -> None:
    await storage.upload(path, b"old")
    sandbox.gateway.fault(answer, on="storage/*", times=1)
    with pytest.raises(ServiceUnavailable):
        await _called(storage, call, path)
    await _called(storage, call, path)


@pytest.mark.parametrize("call", ["upload", "sign", "check"])
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 522, 524, 540, 544])
async def test_a_page_in_html_is_of_the_moment(
    sandbox: Sandbox, storage: Storage, path: str, call: str, status: int
) -> None:
    sandbox.gateway.fault("unavailable", on="storage/*", status=status, html=True)
    with pytest.raises(ServiceUnavailable, match=str(status)) as error:
        await _called(storage, call, path)
    assert "<" not in str(error.value)


@pytest.mark.parametrize("body", [None, [], "text", 7, {}])
async def test_a_success_that_says_something_else_is_of_the_moment(
    sandbox: Sandbox, storage: Storage, path: str, body: object
) -> None:
    sandbox.gateway.fault("replaced", on="storage/*", body=body)
    for call in ("upload", "sign"):
        with pytest.raises(ServiceUnavailable):
            await _called(storage, call, path)


async def test_a_time_out_is_of_the_moment(sandbox: Sandbox, settings: Settings, path: str) -> None:
    sandbox.gateway.fault("hang", on="storage/*")
    async with clients.http_client(httpx.Timeout(0.2), connections=1) as http:
        storage = Storage(clients.storage_client(settings, http), settings.supabase_storage_bucket, 60)
        with pytest.raises(ServiceUnavailable, match="ReadTimeout"):
            await storage.upload(path, b"picture")


async def test_a_picture_that_alone_is_refused_is_no_matter_of_the_account(
    sandbox: Sandbox, storage: Storage, path: str
) -> None:
    sandbox.gateway.fault("object_too_large", on="storage/upload", times=1)
    with pytest.raises(StorageFailed, match="413 Payload too large"):
        await storage.upload(path, b"picture" * 1000)
    assert sandbox.objects() == {}


async def test_a_limit_that_no_picture_passes_is_a_matter_of_the_account(
    sandbox: Sandbox, storage: Storage, path: str
) -> None:
    sandbox.gateway.fault("object_too_large", on="storage/upload")
    with pytest.raises(AccountRefused, match="413 Payload too large"):
        await storage.upload(path, b"picture")


async def test_signing_what_is_not_there_is_about_the_picture(storage: Storage, path: str) -> None:
    with pytest.raises(StorageFailed, match="Object not found"):
        await storage.sign(path)


async def test_another_bucket_than_the_real_one_is_a_matter_of_the_account(settings: Settings, path: str) -> None:
    async with clients.http_client(httpx.Timeout(5), connections=1) as http:
        renamed = Storage(clients.storage_client(settings, http), "renamed", 60)
        for call in ("upload", "check"):
            with pytest.raises(AccountRefused, match="404 Bucket not found"):
                await _called(renamed, call, path)


async def test_a_proof_leaves_nothing_behind(sandbox: Sandbox, storage: Storage, path: str) -> None:
    await storage.check(path)
    assert sandbox.objects() == {}
    await storage.upload(path, b"picture")
    assert sandbox.objects()[path].versions == 1


async def test_a_proof_spares_the_picture_that_is_there(sandbox: Sandbox, storage: Storage, path: str) -> None:
    await storage.upload(path, b"picture")
    await storage.check(path)
    assert (sandbox.objects()[path].data, sandbox.objects()[path].versions) == (b"picture", 1)


async def test_a_proof_whose_answer_was_lost_is_removed_by_the_next_one(
    sandbox: Sandbox, storage: Storage, path: str
) -> None:
    sandbox.gateway.fault("drop_after", on="storage/upload", times=1)
    with pytest.raises(ServiceUnavailable):
        await storage.check(path)
    assert path in sandbox.objects()
    await storage.check(path)
    assert sandbox.objects() == {}


async def test_a_proof_that_cannot_be_removed_at_once_is_removed_a_moment_later(
    sandbox: Sandbox, storage: Storage, path: str
) -> None:
    sandbox.gateway.fault("unavailable", on="storage/remove", times=2)
    await storage.check(path)
    assert sandbox.objects() == {}


async def test_a_proof_that_stays_does_not_unprove_the_upload_and_is_replaced_by_the_picture(
    sandbox: Sandbox, storage: Storage, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMOVAL_PATIENCE_SECONDS", 0.2)
    sandbox.gateway.fault("policy_refused", on="storage/remove")
    await storage.check(path)
    await storage.upload(path, b"picture")
    assert {name: stored.data for name, stored in sandbox.objects().items()} == {path: b"picture"}


@pytest.mark.parametrize("key", ["service_key", "secret_key"])
async def test_both_kinds_of_key_store_and_sign(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, path: str, key: str
) -> None:
    for name, value in sandbox.env(SUPABASE_SERVICE_ROLE_KEY=getattr(sandbox, key)).items():
        monkeypatch.setenv(name, value)
    async with clients.http_client(httpx.Timeout(5), connections=1) as http:
        storage = Storage(clients.storage_client(Settings(), http), Settings().supabase_storage_bucket, 60)
        await storage.check(path)
        await storage.upload(path, b"picture")
        address = await storage.sign(path)
    assert (await asyncio.to_thread(httpx.get, address)).content == b"picture"


async def _called(storage: Storage, call: str, path: str) -> None:
    if call == "upload":
        await storage.upload(path, b"picture")
    else:
        await (storage.sign if call == "sign" else storage.check)(path)
