"""The gateway's Storage half, asked by the real `storage3` client."""

from typing import Any

import pytest
from storage3.exceptions import StorageApiError

from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP

JPEG = {"content-type": "image/jpeg"}


def test_an_upload_keeps_bytes_type_and_path(bucket: Any, sandbox: Sandbox) -> None:
    answer = bucket.upload("generated/u/s.jpg", b"picture", JPEG)

    assert answer.full_path == "virtual-tryon-images/generated/u/s.jpg"
    stored = sandbox.objects()["generated/u/s.jpg"]
    assert (stored.data, stored.content_type, stored.size, stored.versions) == (b"picture", "image/jpeg", 7, 1)
    assert bucket.download("generated/u/s.jpg") == b"picture"


def test_a_second_upload_needs_upsert(bucket: Any, sandbox: Sandbox) -> None:
    bucket.upload("a.jpg", b"1", JPEG)
    with pytest.raises(StorageApiError) as error:
        bucket.upload("a.jpg", b"2", JPEG)
    assert (error.value.code, error.value.status, error.value.message) == (
        "Duplicate",
        "409",
        "The resource already exists",
    )
    bucket.upload("a.jpg", b"3", {**JPEG, "upsert": "true"})
    assert (sandbox.objects()["a.jpg"].data, sandbox.objects()["a.jpg"].versions) == (b"3", 2)


def test_a_signed_url_opens_one_object_until_it_runs_out(bucket: Any) -> None:
    bucket.upload("a b/ü.jpg", b"picture", JPEG)
    url = bucket.create_signed_url("a b/ü.jpg", 21600)["signedURL"]
    expired = bucket.create_signed_url("a b/ü.jpg", -1)["signedURL"]

    answer = HTTP.get(url)
    assert (answer.content, answer.headers["content-type"]) == (b"picture", "image/jpeg")
    assert HTTP.get(url[:-3] + "abc").json()["error"] == "InvalidJWT"
    assert HTTP.get(url.replace("a%20b", "other")).status_code == 400
    assert HTTP.get(expired).json()["message"] == '"exp" claim timestamp check failed'


def test_signing_needs_the_object(bucket: Any) -> None:
    with pytest.raises(StorageApiError, match="Object not found"):
        bucket.create_signed_url("missing.jpg", 60)


def test_an_object_is_removed(bucket: Any, sandbox: Sandbox) -> None:
    bucket.upload("folder/a.jpg", b"1", JPEG)
    assert [item["name"] for item in bucket.remove(["folder/a.jpg", "folder/b.jpg"])] == ["folder/a.jpg"]
    assert sandbox.objects() == {}


def test_a_key_that_is_no_jwt_belongs_into_apikey_alone(sandbox: Sandbox) -> None:
    url, files = f"{sandbox.supabase_url}/storage/v1/object/virtual-tryon-images/a.jpg", {"file": b"1"}
    secret, publishable = {"apikey": sandbox.secret_key}, {"apikey": sandbox.publishable_key}
    assert HTTP.post(url, files=files, headers=secret).status_code == 200
    assert HTTP.post(url, files=files, headers=publishable).json()["statusCode"] == "403"
    as_bearer = HTTP.post(url, files=files, headers={**secret, "Authorization": f"Bearer {sandbox.secret_key}"})
    assert (as_bearer.status_code, as_bearer.json()["message"]) == (400, "Invalid Compact JWS")


def test_buckets_are_private_and_have_to_exist(sandbox: Sandbox, bucket: Any) -> None:
    url = f"{sandbox.supabase_url}/storage/v1"
    headers = {"apikey": sandbox.service_key}
    assert HTTP.get(f"{url}/bucket/virtual-tryon-images", headers=headers).json()["public"] is False
    assert HTTP.get(f"{url}/bucket/other", headers=headers).json()["error"] == "Bucket not found"
    bucket.upload("a.jpg", b"1", JPEG)
    assert HTTP.get(f"{url}/object/virtual-tryon-images/a.jpg").status_code == 401
    anonymous = {"apikey": sandbox.anon_key}
    refused = HTTP.post(f"{url}/object/virtual-tryon-images/b.jpg", files={"file": b"1"}, headers=anonymous)
    assert refused.json()["statusCode"] == "403"


def test_a_listing_is_of_one_folder_and_in_pages(bucket: Any, sandbox: Sandbox) -> None:
    names = ["a/b/c.jpg", "a/b/d.jpg", "a/B.jpg", "a/z.jpg", "a//e.jpg", "aa/f.jpg"]
    sandbox.gateway.plant("virtual-tryon-images", [(name, 3600, 7) for name in names])

    entries = bucket.list("a")
    assert [(it["name"], it["id"] is None) for it in entries] == [
        ("", True), ("B.jpg", False), ("b", True), ("z.jpg", False),
    ]  # fmt: skip
    assert entries[3]["metadata"]["size"] == 7
    assert [it["name"] for it in bucket.list("a/", {"limit": 2, "offset": 1})] == ["B.jpg", "b"]
    assert [it["name"] for it in bucket.list("A/b/")] == ["c.jpg", "d.jpg"]
    assert [it["name"] for it in bucket.list("")] == ["a", "aa"]


def test_a_page_and_a_removal_have_their_limits(bucket: Any, sandbox: Sandbox) -> None:
    names = [f"a/{number:04}.jpg" for number in range(1600)]
    sandbox.gateway.plant("virtual-tryon-images", [(name, 3600, 7) for name in names])

    assert len(bucket.list("a", {"limit": 5000})) == 1500
    for refused in ([], names[:1001]):
        with pytest.raises(StorageApiError, match="items"):
            bucket.remove(refused)
    sandbox.gateway.fault("partial", on="storage/remove", times=1)
    assert [it["name"] for it in bucket.remove(names[:4])] == [names[0], names[2]]
    assert len(bucket.remove(names[:1000])) == 998
