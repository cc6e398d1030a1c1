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
    """Number of requests of this process with this end."""
    labels = {"outcome": outcome, "reason": "none"}
    return REGISTRY.get_sample_value("wearon_sizing_requests_total", labels) or 0.0


def test_answer_has_the_contracts_keys_and_new_ones_only_at_the_top(service: Service, photo_host: PhotoHost) -> None:
    answer = service.estimate(f"{photo_host.origin}/{BODY}", 173.4)

    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {
        *("recommended_size", "measurements", "confidence", "body_type", "size_range"),
        *("uncertainty_cm", "warnings", "request_id", "size_probabilities", "recommendation", "basis", "hint"),
        "verdicts",
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
    assert (answer["recommendation"], answer["confidence"]) == ("unsure", 0)


def test_without_a_photo_people_of_that_height_and_weight_answer(service: Service) -> None:
    answer = service.client.post("/estimate-body", json={"height_cm": 178, "weight_kg": 74.5, "sex": "M", "age": 30})

    assert answer.status_code == 200
    body = answer.json()
    assert (body["basis"], body["recommended_size"], body["recommendation"]) == ("prior", "M", "sure")
    assert sum(body["size_probabilities"].values()) == pytest.approx(1, abs=0.005)
    assert body["confidence"] == body["size_probabilities"]["M"]


def test_size_whose_neighbour_is_nearly_as_likely_is_not_called_sure(service: Service, photo_host: PhotoHost) -> None:
    bodies = [
        service.estimate(f"{photo_host.origin}/{name}", float(row["height_cm"])).json() for name, row in truth().items()
    ]

    assert {body["recommendation"] for body in bodies} == {"sure", "unsure"}
    assert all(body["confidence"] >= 0.6 for body in bodies if body["recommendation"] == "sure")


@pytest.mark.parametrize("chart", ["unisex-eu", "men-eu", "women-eu", None])
def test_standard_charts_are_chosen_by_name(service: Service, chart: str | None) -> None:
    answer = service.client.post("/estimate-body", json={"height_cm": 168, "weight_kg": 60, "sex": "F", "chart": chart})

    assert answer.status_code == 200
    assert set(answer.json()["verdicts"]) == {"XS", "S", "M", "L", "XL", "XXL"}


def test_every_size_of_a_brand_s_chart_has_a_verdict_by_place(service: Service) -> None:
    chart = {"26": {"waist_cm": 66}, "28": {"waist_cm": 71}, "40": {"waist_cm": 101}}
    body = service.client.post(
        "/estimate-body", json={"height_cm": 178, "weight_kg": 74.5, "sex": "M", "size_chart": chart}
    ).json()

    assert body["recommended_size"] == "40"
    assert body["verdicts"]["40"] == {"waist": "fits"}
    assert re.fullmatch(r"\d+ cm too tight", body["verdicts"]["26"]["waist"])


@pytest.mark.parametrize("side", ["missing.jpg", BODY, "wall.png"])
def test_side_photo_that_cannot_be_used_leaves_the_front_one_with_a_warning(
    service: Service, photo_host: PhotoHost, side: str
) -> None:
    photo_host.put(jpeg(Image.new("RGB", (600, 800), (200, 190, 180))), "wall.png")
    url = f"{photo_host.origin}/{BODY}"
    alone = service.estimate(url, 173.4).json()

    answer = service.estimate(url, 173.4, side_image_url=f"{photo_host.origin}/{side}")

    assert answer.status_code == 200
    assert answer.json()["warnings"] == [*alone["warnings"], "side_photo_unusable"]
    assert answer.json()["hint"].startswith("The photo from the side was left out: ")
    assert (answer.json()["basis"], answer.json()["measurements"]) == ("front", alone["measurements"])


def test_two_neighbours_at_most_are_in_the_range(service: Service, photo_host: PhotoHost) -> None:
    order = ["XS", "S", "M", "L", "XL", "XXL"]
    for name, row in truth().items():
        body = service.estimate(f"{photo_host.origin}/{name}", float(row["height_cm"])).json()
        named = (body["size_range"]["lower"], body["recommended_size"], body["size_range"]["upper"])
        lower, size, upper = (order.index(size) for size in named)
        assert lower <= size <= upper <= lower + 1


def test_weight_that_contradicts_the_photo_is_explained(service: Service, photo_host: PhotoHost) -> None:
    url = f"{photo_host.origin}/{BODY}"
    right, wrong = (service.estimate(url, 173.4, weight_kg=weight, sex="M").json() for weight in (77.3, 46))

    assert (right["warnings"], right["hint"]) == ([], "")
    assert wrong["warnings"] == ["weight_unlikely"]
    assert "46 kg contradicts the photo" in wrong["hint"]
    assert "tight clothing" in wrong["hint"]


def test_girths_rise_with_the_weight_for_one_picture(service: Service, photo_host: PhotoHost) -> None:
    answers = [service.estimate(f"{photo_host.origin}/{BODY}", 173.4, weight_kg=w) for w in range(25, 351, 13)]
    chests = [answer.json()["measurements"]["chest_cm"] for answer in answers if answer.status_code == 200]

    assert {answer.status_code for answer in answers} == {200, 422}
    assert len(chests) > 10
    assert chests == sorted(chests)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight_kg": 264, "height_cm": 190}, "If it is in pounds, send 119.8."),
        ({"weight_kg": 202.3, "height_cm": 170}, None),
        ({"weight_kg": 12.9792, "height_cm": 104}, None),
        ({"weight_kg": 12, "height_cm": 102}, "from 13 to 72 kg are possible"),
        ({"weight_kg": 205, "height_cm": 171}, "from 36 to 204 kg are possible"),
        ({"size_chart": {"M": {"chest_cm": 40}, "L": {"chest_cm": 44}}}, "Size L ends at chest_cm 44"),
        ({"size_chart": {"M": {"waist_cm": 32, "hip_cm": 39}}}, "inch is 2.54 cm"),
        ({"size_chart": {"S": {"chest_cm": 36}, "6XL": {"chest_cm": 64}}}, "Size S ends at chest_cm 36"),
        ({"size_chart": {"28": {"waist_cm": 28}, "54": {"waist_cm": 54}}}, "Size 28 ends at waist_cm 28"),
        ({"size_chart": {"50": {"chest_cm": 43, "waist_cm": 41}, "164": {"chest_cm": 80, "waist_cm": 68}}}, None),
        ({"size_chart": {"S": {"chest_cm": 90, "waist_cm": 80}, "M": {"chest_cm": 95}, "L": {"chest_cm": 99}}}, None),
        ({"size_chart": {"S": {"chest_cm": 90}, "M": {"chest_cm": 95, "waist_cm": 80}}}, "Size M limits the waist"),
        ({"size_chart": {"S": {"chest_cm": 90}, "S/M": {"chest_cm": 90}}}, "Sizes S and S/M have the same limits"),
    ],
)
def test_other_units_and_odd_charts_are_explained(
    service: Service, change: dict[str, object], words: str | None
) -> None:
    answer = service.client.post("/estimate-body", json={"height_cm": 178, "weight_kg": 74, **change})

    assert answer.status_code == (422 if words else 200)
    assert (words or "") in answer.text


def test_weight_that_looks_like_pounds_is_answered_with_doubt(service: Service) -> None:
    body = service.client.post("/estimate-body", json={"height_cm": 178, "weight_kg": 165}).json()

    assert (body["warnings"][0], body["recommendation"]) == ("weight_unlikely", "unsure")
    assert body["hint"] == "165 kg is rare. If it is in pounds, send 74.8."


@pytest.mark.parametrize("name", ["42½", "Größe M", "均码", "XL/2XL", "大 きい"])
def test_sizes_may_have_any_name(service: Service, name: str) -> None:
    chart = {name: {"waist_cm": 80, "hip_cm": 98}, "large": {"waist_cm": 95, "hip_cm": 110}}
    answer = service.client.post("/estimate-body", json={"height_cm": 168, "weight_kg": 60, "size_chart": chart})

    assert answer.status_code == 200
    assert set(answer.json()["size_probabilities"]) == {name, "large"}


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
        {"weight_kg": 36},
        {"weight_kg": 225},
        {"age": 9},
        {"image_url": None, "weight_kg": None},
        {"image_url": None, "side_image_url": "https://example.com/side.jpg"},
        {"chart": "men-eu"},
        {"chart": "men-us", "size_chart": None},
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
    ("change", "loc", "words"),
    [
        ({"weigth_kg": 74}, ["body", "(unknown)"], "did you mean weight_kg?"),
        ({"Height_cm": 180}, ["body", "(unknown)"], "did you mean height_cm?"),
        (
            {"size_chart": {"M": {"chest_cm": 94}, "S": {"chest_cm": 90, "waist": 80}}},
            ["body", "size_chart", 1, "(unknown)"],
            "did you mean waist_cm?",
        ),
        ({"jane@example.com": 1}, ["body", "(unknown)"], "known are image_url, height_cm"),
        ({"x" * 50_000: 1}, ["body", "(unknown)"], "known are image_url, height_cm"),
    ],
)
def test_an_unknown_field_is_refused_without_an_echo(
    service: Service, change: dict[str, object], loc: list[str | int], words: str
) -> None:
    answer = service.client.post("/estimate-body", json={**EXAMPLE, **change})

    assert answer.status_code == 422
    assert [(item["loc"], item["type"]) for item in answer.json()["detail"]] == [(loc, "extra_forbidden")]
    assert words in answer.json()["detail"][0]["msg"]
    assert not any(name in answer.text for name in change if name != "size_chart")


def test_a_body_of_unknown_fields_gets_a_short_answer(service: Service) -> None:
    answer = service.client.post("/estimate-body", json={**EXAMPLE, **{f"f{number}": 1 for number in range(5000)}})

    assert len(answer.json()["detail"]) == 20


def test_optional_fields_may_be_null(service: Service, photo_host: PhotoHost) -> None:
    url = f"{photo_host.origin}/{BODY}"

    answer = service.estimate(url, 173.4, weight_kg=None, sex=None, age=None, fit=None, size_chart=None)

    assert answer.status_code == 200


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
    """The part that arrived may even be a whole object."""
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


def test_length_of_twenty_digits_is_413(service: Service) -> None:
    url = service.client.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(b"POST /estimate-body HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 20 + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"])
def test_body_that_is_not_sent_as_json_is_415(service: Service, kind: str) -> None:
    answer = service.client.post("/estimate-body", content=json.dumps(EXAMPLE), headers={"Content-Type": kind})

    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


def test_body_without_a_type_is_read_as_json(service: Service) -> None:
    answers = [
        service.client.post("/estimate-body", content=body) for body in (b'{"height_cm": 178, "weight_kg": 74}', b"x")
    ]

    assert [answer.status_code for answer in answers] == [200, 422]
    assert answers[1].json()["detail"][0]["type"] == "json_invalid"


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_head_answers_as_get_without_a_body(service: Service, path: str) -> None:
    head, whole = service.client.head(path), service.client.get(path)

    assert (head.status_code, head.content) == (whole.status_code, b"")


def test_clients_that_hang_up_free_their_downloads_at_once(photo_host: PhotoHost) -> None:
    """More of them than may download at once; the next client is not kept waiting."""
    slow = photo_host.put(jpeg(picture(BODY)), "hang-up.jpg", delay=3)
    body = json.dumps({"image_url": slow, "height_cm": 170}).encode()
    head = f"POST /estimate-body HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    before, asked = counted("aborted"), len(photo_host.asked)
    with serving(photo_host) as running:
        while not running.health.model_loaded:
            time.sleep(0.01)
        base = running.client.base_url
        clients = [socket.create_connection((base.host, base.port or 80), timeout=10) for _ in range(48)]
        for client in clients:
            client.sendall(head.encode() + b"\r\n\r\n" + body)
        deadline = time.monotonic() + 3
        while photo_host.asked[asked:].count("/hang-up.jpg") < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        for client in clients:
            client.close()
        begun = time.monotonic()
        answer = running.estimate(f"{photo_host.origin}/{BODY}", 173.4)
        waited = time.monotonic() - begun

    assert answer.status_code == 200
    assert waited < 1.5
    assert counted("aborted") == before + 48


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


def test_service_without_model_is_503_and_not_ready_but_healthy(photo_host: PhotoHost, tmp_path: Path) -> None:
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
