"""The photo host and its lies."""

import time

import httpx
import pytest

from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP


def test_sample_pictures_are_there_from_the_start(sandbox: Sandbox) -> None:
    answer = HTTP.get(sandbox.photos.url("person.jpg"))
    assert answer.headers["content-type"] == "image/jpeg"
    assert len(answer.content) == int(answer.headers["content-length"])


def test_any_bytes_are_served_with_any_type_and_status(sandbox: Sandbox) -> None:
    url = sandbox.photos.put("a.jpg", b"<html>", content_type="image/jpeg", status=500, headers={"X-Lie": "yes"})
    answer = HTTP.get(url)
    assert (answer.status_code, answer.content, answer.headers["x-lie"]) == (500, b"<html>", "yes")
    assert HTTP.get(sandbox.photos.url("missing")).status_code == 404


def test_redirects_point_where_they_are_told(sandbox: Sandbox) -> None:
    url = sandbox.photos.put("r.jpg", status=302, location=sandbox.photos.url("person.jpg"))
    assert HTTP.get(url).headers["location"].endswith("/person.jpg")


@pytest.mark.parametrize("length", ["chunked", "none"])
def test_the_length_may_be_missing(sandbox: Sandbox, length: str) -> None:
    answer = HTTP.get(sandbox.photos.put("a.jpg", b"x" * 100_000, length=length))
    assert len(answer.content) == 100_000
    assert "content-length" not in answer.headers


def test_the_body_may_break_off(sandbox: Sandbox) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        HTTP.get(sandbox.photos.put("b.jpg", b"x" * 1000, cut_after=10))


def test_a_body_can_drip(sandbox: Sandbox) -> None:
    url = sandbox.photos.put("a.jpg", b"x" * 50, drip_bytes=10, drip_seconds=0.05, delay=0.1)
    started = time.monotonic()
    assert len(HTTP.get(url).content) == 50
    assert time.monotonic() - started > 0.3


def test_a_body_can_be_endless(sandbox: Sandbox) -> None:
    with httpx.stream("GET", sandbox.photos.put("a.jpg", b"\xff\xd8", endless=True)) as answer:
        received = 0
        for piece in answer.iter_bytes():
            received += len(piece)
            if received > 20_000_000:
                break
    assert HTTP.get(sandbox.photos.url("person.jpg")).status_code == 200


def test_a_photo_can_hang(sandbox: Sandbox) -> None:
    with pytest.raises(httpx.ReadTimeout):
        HTTP.get(sandbox.photos.put("a.jpg", hang=True), timeout=0.2)
