"""Outages of the Supabase gateway, and answers that get lost."""

import time
from typing import Any

import httpx
import pytest
from postgrest import APIError, SyncPostgrestClient
from storage3.exceptions import StorageApiError

from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from tests.sandbox_tests.conftest import call


@pytest.fixture
def user(sandbox: Sandbox) -> str:
    return sandbox.producer.user(balance=3)


def deduct(rest: SyncPostgrestClient, user: str) -> Any:
    return call(rest, "deduct_credits", p_user_id=user, p_amount=1, p_description="")


def test_a_function_can_be_unavailable_for_some_calls(rest: SyncPostgrestClient, sandbox: Sandbox, user: str) -> None:
    sandbox.gateway.fault("unavailable", on="rpc/deduct_credits", times=2)
    for _ in range(2):
        with pytest.raises(APIError):
            deduct(rest, user)
    assert deduct(rest, user) is True
    assert sandbox.gateway.requests() == {"rpc/deduct_credits": 3}


def test_everything_can_be_unavailable_for_a_time(
    rest: SyncPostgrestClient, sandbox: Sandbox, user: str, bucket: Any
) -> None:
    sandbox.gateway.fault("unavailable", seconds=2)
    with pytest.raises(APIError):
        deduct(rest, user)
    with pytest.raises(StorageApiError):
        bucket.upload("a.jpg", b"1", {})
    time.sleep(2)
    assert deduct(rest, user) is True


def test_a_connection_dropped_before_the_commit_changes_nothing(
    rest: SyncPostgrestClient, sandbox: Sandbox, user: str
) -> None:
    sandbox.gateway.fault("drop_before", on="rpc/*", times=1)
    with pytest.raises(httpx.TransportError):
        deduct(rest, user)
    assert sandbox.balance(user) == 3


def test_a_connection_dropped_after_the_commit_has_done_its_work(
    rest: SyncPostgrestClient, sandbox: Sandbox, user: str, bucket: Any
) -> None:
    sandbox.gateway.fault("drop_after", times=2)
    with pytest.raises(httpx.TransportError):
        deduct(rest, user)
    with pytest.raises(httpx.TransportError):
        bucket.upload("a.jpg", b"1", {})
    assert sandbox.balance(user) == 2
    assert list(sandbox.objects()) == ["a.jpg"]


def test_a_connection_can_end_or_be_reset(rest: SyncPostgrestClient, sandbox: Sandbox, user: str) -> None:
    sandbox.gateway.fault("drop_before", times=1)
    sandbox.gateway.fault("drop_before", times=1, reset=True)
    with pytest.raises(httpx.RemoteProtocolError):
        deduct(rest, user)
    with pytest.raises(httpx.ReadError):
        deduct(rest, user)


def test_answers_can_be_slow_or_never_come(rest: SyncPostgrestClient, sandbox: Sandbox, user: str) -> None:
    slow = sandbox.gateway.fault("slow", delay=0.3)
    started = time.monotonic()
    deduct(rest, user)
    assert time.monotonic() - started > 0.3
    sandbox.gateway.clear(slow)
    sandbox.gateway.fault("hang", on="rpc/*")
    rest.session.timeout = 0.2
    with pytest.raises(httpx.ReadTimeout):
        deduct(rest, user)


def test_steps_of_storage_fail_one_by_one(sandbox: Sandbox, bucket: Any) -> None:
    sandbox.gateway.fault("unavailable", on="storage/sign", status=500, times=1)
    bucket.upload("a.jpg", b"1", {})
    with pytest.raises(StorageApiError) as error:
        bucket.create_signed_url("a.jpg", 60)
    assert error.value.status == 500
    bucket.create_signed_url("a.jpg", 60)


def test_a_fault_can_choose_one_session(rest: SyncPostgrestClient, sandbox: Sandbox, user: str) -> None:
    other = sandbox.producer.user(balance=1)
    sandbox.gateway.fault("unavailable", contains=user)
    with pytest.raises(APIError):
        deduct(rest, user)
    assert deduct(rest, other) is True


def test_faults_are_added_from_the_shell_as_well(rest: SyncPostgrestClient, sandbox: Sandbox, user: str) -> None:
    body = {"fault": {"kind": "unavailable", "on": "rpc/*", "times": 1}, "faults": {}}
    answer = HTTP.post(f"{sandbox.supabase_url}/__control", json=body).json()
    assert answer["faults"][0]["id"] == answer["fault"]
    with pytest.raises(APIError):
        deduct(rest, user)
    assert HTTP.post(f"{sandbox.supabase_url}/__control", json={"nonsense": {}}).status_code == 400
