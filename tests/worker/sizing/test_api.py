"""The contract of POST /estimate-body, over real sockets with the real model."""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.worker.sizing.conftest import PhotoHost, Service, jpeg, picture, serving, truth
from worker.metrics import REGISTRY
from worker.sizing.schemas import EXAMPLE, EXAMPLE_FULL

BODY = "b000.jpg"


def counted(outcome: str) -> float:
    """How many requests have ended like that in this process."""
    labels = {"outcome": outcome, "reason": "none"}
    return REGISTRY.get_sample_value("wearon_sizing_requests_total", labels) or 0.0


def test_answer_has_the_contracts_keys_and_new_ones_only_at_the_top(service: Service, photo_host: PhotoHost) -> None:
    answer = service.estimate(f"{photo_host.origin}/{BODY}", 173.4)

    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {
        *("recommended_size", "measurements", "confidence", "body_type", "size_range"),
        *("uncertainty_cm", "warnings", "request_id"),
    }
    assert set(body["measurements"]) == {"chest_cm", "waist_cm", "hip_cm", "shoulder_cm"} == set(body["uncertainty_cm"])
    assert body["recommended_size"] in {"XS", "S", "M", "L", "XL", "XXL"}
    assert body["body_type"] in {"athletic", "slim", "average", "broad"}
    assert 0 <= body["confidence"] <= 1


def test_measurements_are_near_the_truth(service: Service, photo_host: PhotoHost) -> None:
    errors = []
    for name, row in truth().items():
        found = service.estimate(f"{photo_host.origin}/{name}", float(row["height_cm"])).json()["measurements"]
        errors.append([abs(found[girth] - float(row[girth])) for girth in ("chest_cm", "waist_cm", "hip_cm")])

    mean = [sum(column) / len(column) for column in zip(*errors, strict=True)]

    assert mean[0] < 6
    assert mean[1] < 5.5
    assert mean[2] < 4.5


def test_weight_narrows_the_interval(service: Service, photo_host: PhotoHost) -> None:
    url = f"{photo_host.origin}/{BODY}"

    without = service.estimate(url, 173.4).json()["uncertainty_cm"]["chest_cm"]
    with_weight = service.estimate(url, 173.4, weight_kg=77.3, sex="M").json()["uncertainty_cm"]["chest_cm"]

    assert with_weight < 0.8 * without


def test_own_chart_decides_the_size_and_fit_moves_it(service: Service, photo_host: PhotoHost) -> None:
    url = f"{photo_host.origin}/{BODY}"
    chest = service.estimate(url, 173.4).json()["measurements"]["chest_cm"]
    chart = {"42": {"chest_cm": chest + 9}, "38": {"chest_cm": chest - 1}, "40": {"chest_cm": chest + 1}}

    sizes = {
        fit: service.estimate(url, 173.4, size_chart=chart, fit=fit).json()["recommended_size"]
        for fit in ("tight", "regular", "loose")
    }

    assert sizes == {"tight": "38", "regular": "40", "loose": "42"}


def test_larger_than_the_chart_is_the_largest_size_with_a_warning(service: Service, photo_host: PhotoHost) -> None:
    answer = service.estimate(f"{photo_host.origin}/{BODY}", 173.4, size_chart={"S": {"chest_cm": 60}}).json()

    assert (answer["recommended_size"], answer["warnings"]) == ("S", ["beyond_chart"])


@pytest.mark.parametrize("given", ["abc-1", "req_5f0c8a52-6f3c-4a43-a4f7-9a0c8b6a1d34"])
def test_given_request_id_is_echoed(service: Service, photo_host: PhotoHost, given: str) -> None:
    answer = service.estimate(f"{photo_host.origin}/{BODY}", headers={"X-Request-Id": given})

    assert answer.headers["X-Request-Id"] == given == answer.json()["request_id"]


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "<script>", "x;y"])
def test_unusable_request_id_is_replaced(service: Service, given: str) -> None:
    answer = service.client.get("/health", headers={"X-Request-Id": given})

    assert re.fullmatch(r"req_[0-9a-f-]{36}", answer.headers["X-Request-Id"])


@pytest.mark.parametrize(
    "change",
    [
        {"height_cm": 99.9},
        {"height_cm": 250.1},
        {"height_cm": "178"},
        {"height_cm": True},
        {"height_cm": None},
        {"image_url": "ftp://example.com/a.jpg"},
        {"image_url": "file:///etc/passwd"},
        {"image_url": ""},
        {"image_url": 7},
        {"image_url": "https://example.com/" + "a" * 9000},
        {"weight_kg": 0},
        {"weight_kg": "74"},
        {"sex": "X"},
        {"fit": "baggy"},
        {"size_chart": {}},
        {"size_chart": {"S": {}}},
        {"size_chart": {"S": {"chest_cm": -1}}},
        {"size_chart": {"": {"chest_cm": 90}}},
        {"size_chart": {"S": {"chest_cm": 80, "waist_cm": 90}, "M": {"chest_cm": 90, "waist_cm": 70}}},
        {"size_chart": {"S": {"chest_cm": 90, "bust": 90}}},
        {"weigth_kg": 74},
    ],
)
def test_invalid_input_is_422_and_not_echoed(service: Service, change: dict[str, object]) -> None:
    answer = service.client.post("/estimate-body", json={**EXAMPLE_FULL, **change})

    assert answer.status_code == 422
    assert all(set(item) == {"loc", "msg", "type"} for item in answer.json()["detail"])


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"weigth_kg": 74}, ["body", "weigth_kg"]),
        ({"Height_cm": 180}, ["body", "Height_cm"]),
        ({"weigth_kg": None}, ["body", "weigth_kg"]),
        ({"size_chart": {"S": {"chest_cm": 90, "waist": 80}}}, ["body", "size_chart", "S", "waist"]),
        ({"x" * 50_000: 1}, ["body", "x" * 100]),
    ],
)
def test_an_unknown_field_is_refused_by_its_name(service: Service, change: dict[str, object], loc: list[str]) -> None:
    answer = service.client.post("/estimate-body", json={**EXAMPLE, **change})

    assert answer.status_code == 422
    assert [(item["loc"], item["type"]) for item in answer.json()["detail"]] == [(loc, "extra_forbidden")]


def test_a_body_of_unknown_fields_gets_a_short_answer(service: Service) -> None:
    answer = service.client.post("/estimate-body", json={**EXAMPLE, **{f"f{number}": 1 for number in range(5000)}})

    assert len(answer.json()["detail"]) == 20


def test_optional_fields_may_be_null(service: Service, photo_host: PhotoHost) -> None:
    url = f"{photo_host.origin}/{BODY}"

    assert service.estimate(url, 173.4, weight_kg=None, sex=None, size_chart=None).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'{"image_url": "https://example.com/a.jpg", "height_cm": NaN}',
        b'{"image_url": "https://example.com/a.jpg", "height_cm": Infinity}',
        b'{"image_url": "https://example.com/a.jpg", "height_cm": 1e999}',
        b'{"image_url": "https://example.com/a.jpg", "height_cm": ' + b"9" * 5000 + b"}",
        b'{"image_url": "\\ud800https://example.com", "height_cm": 170}',
        b"[" * 20_000,
        b"\xff\xfe\x00",
    ],
    ids=range(11),
)
def test_body_that_is_no_usable_json_is_422(service: Service, body: bytes) -> None:
    answer = service.client.post("/estimate-body", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    json.loads(answer.text)


def test_large_body_is_413_with_and_without_its_length(service: Service) -> None:
    known = service.client.post("/estimate-body", content=b"x" * 70_000)
    chunked = service.client.post("/estimate-body", content=iter([b"x" * 1000] * 70))

    assert (known.status_code, chunked.status_code) == (413, 413)


def test_no_answer_to_a_large_body_is_lost(service: Service) -> None:
    """Closed while the client still sends, the connection would be reset, now and then before the answer is read."""
    for _ in range(200):
        assert service.client.post("/estimate-body", content=b"x" * 900_000).status_code == 413


def test_client_that_hangs_up_in_the_middle_of_its_request_is_forgotten(
    service: Service, photo_host: PhotoHost
) -> None:
    """What it has sent may even be a whole object."""
    url = photo_host.put(jpeg(picture(BODY)), "hung-up.jpg")
    body = json.dumps({"image_url": url, "height_cm": 170})
    head = f"POST /estimate-body HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + 50}\r\n\r\n"
    before = {outcome: counted(outcome) for outcome in ("completed", "invalid", "failed")}
    base = service.client.base_url
    with socket.create_connection((base.host, base.port or 80), timeout=10) as connection:
        connection.sendall((head + body).encode())
        time.sleep(0.1)
    time.sleep(0.5)
    assert {outcome: counted(outcome) for outcome in before} == before
    assert "/hung-up.jpg" not in photo_host.asked


def test_body_that_says_it_is_huge_is_not_waited_for(service: Service) -> None:
    url = service.client.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(b"POST /estimate-body HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_picture_that_cannot_be_fetched_is_400(service: Service, photo_host: PhotoHost) -> None:
    free = socket.create_server(("127.0.0.1", 0)).getsockname()[1]
    urls = [
        f"{photo_host.origin}/missing.jpg",
        photo_host.put(b"no picture", "text.jpg"),
        photo_host.put(jpeg(picture(BODY))[:20_000], "cut.jpg"),
        "http://169.254.169.254/latest/meta-data/",
        f"http://127.0.0.1:{free}/private.jpg",
    ]

    answers = [service.estimate(url) for url in urls]

    assert [answer.status_code for answer in answers] == [400] * len(urls)
    assert all(set(answer.json()) == {"detail"} for answer in answers)


def test_refusal_has_detail_reason_and_hint(service: Service, photo_host: PhotoHost) -> None:
    url = photo_host.put(jpeg(Image.new("RGB", (600, 800), (200, 190, 180))), "wall.jpg")

    answer = service.estimate(url)

    assert answer.status_code == 422
    assert set(answer.json()) == {"detail", "reason", "hint"}
    assert answer.json()["reason"] == "no_person"


def test_formats_turns_and_sizes_of_phones_are_measured_alike(service: Service, photo_host: PhotoHost) -> None:
    image = picture(BODY)
    usual = service.estimate(f"{photo_host.origin}/{BODY}", 173.4).json()["measurements"]["chest_cm"]
    turned, cmyk, png, large = BytesIO(), BytesIO(), BytesIO(), BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(turned, "JPEG", quality=90, exif=exif)
    image.convert("CMYK").save(cmyk, "JPEG", quality=90)
    image.convert("RGBA").save(png, "PNG")
    image.resize((3024, 4032)).save(large, "JPEG", quality=80)
    variants = {"turned.jpg": turned, "cmyk.jpg": cmyk, "alpha.png": png, "large.jpg": large}

    found = {
        name: service.estimate(photo_host.put(data.getvalue(), name), 173.4).json()["measurements"]["chest_cm"]
        for name, data in variants.items()
    }

    assert found == {name: pytest.approx(usual, abs=2.5) for name in variants}


def test_service_without_model_is_503_and_not_ready_but_healthy(
    photo_host: PhotoHost, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("starting")
    damaged = tmp_path / "model.task"
    damaged.write_bytes(b"damaged")
    with serving(photo_host, pose_model_path=damaged) as broken:
        time.sleep(0.3)
        estimate = broken.estimate(f"{photo_host.origin}/{BODY}")
        ready, health = broken.client.get("/ready"), broken.client.get("/health")

    assert estimate.status_code == 503
    assert int(estimate.headers["Retry-After"]) > 0
    assert counted("starting") == before + 1
    assert ready.status_code == 503
    assert (health.status_code, health.json()["model_loaded"], health.json()["status"]) == (200, False, "degraded")


def test_full_queue_is_503_with_retry_after_and_health_answers_meanwhile(photo_host: PhotoHost) -> None:
    url, before = f"{photo_host.origin}/{BODY}", counted("saturated")
    with serving(photo_host, sizing_threads=1, sizing_queue=1) as busy:
        while not busy.health.model_loaded:
            time.sleep(0.01)
        with ThreadPoolExecutor(16) as clients:
            futures = [clients.submit(busy.estimate, url, 173.4) for _ in range(32)]
            waits = []
            while not all(future.done() for future in futures):
                begun = time.monotonic()
                assert busy.client.get("/health").status_code == 200
                waits.append(time.monotonic() - begun)
        answers = [future.result() for future in futures]

    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 503}
    assert counted("saturated") - before == [answer.status_code for answer in answers].count(503)
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers if answer.status_code == 503)
    assert sorted(waits)[len(waits) // 2] < 0.2


def test_slow_photo_host_does_not_hold_a_request_longer_than_allowed(photo_host: PhotoHost) -> None:
    url = photo_host.put(jpeg(picture(BODY)), "slow.jpg", delay=3)
    with serving(photo_host, sizing_timeout_seconds=0.5) as impatient:
        while not impatient.health.model_loaded:
            time.sleep(0.01)
        begun = time.monotonic()
        answer = impatient.estimate(url)

    assert answer.status_code == 400
    assert time.monotonic() - begun < 1.5
