"""A try-on as a customer gets it: through the stack's own Redis, with the sandbox around it."""

import json
from collections.abc import Callable

import pytest
from testinfra.host import Host

from tests.molecule.hosts import StackRedis
from tests.sandbox.producer import Producer
from tests.sandbox.records import Records


@pytest.mark.parametrize("channel", ["b2c", "b2b"])
def test_generation_is_delivered_and_paid_once(
    records: Records, sandbox: dict[str, str], server: Host, channel: str
) -> None:
    photos = [f"{sandbox['photos_url']}/{name}.jpg" for name in ("person", "garment")]
    producer = Producer(records.database, StackRedis(server), photos)  # type: ignore[arg-type]
    queued = producer.b2c() if channel == "b2c" else producer.b2b()
    session = records.settled(channel, queued.session_id, timeout=30)
    assert session["status"] == "completed", session["error_message"]
    assert session["generated_image_url"]
    assert len([row for row in records.ledger(queued.owner_id) if row["type"] == "refund"]) == 0


def test_doctor_finds_nothing(server: Host) -> None:
    result = server.run("docker exec wearon-worker-blue-1 python3 -m worker doctor")
    assert result.rc == 0, result.stdout + result.stderr


def test_size_api_answers_through_nginx(curl: Callable[[str], str], sandbox: dict[str, str]) -> None:
    body = json.dumps({"image_url": f"{sandbox['photos_url']}/body.jpg", "height_cm": 178})
    answer = curl(f"-X POST -H 'Content-Type: application/json' -d '{body}' https://api.example.test/estimate-body")
    assert json.loads(answer)["recommended_size"] in {"XS", "S", "M", "L", "XL", "XXL"}, answer
