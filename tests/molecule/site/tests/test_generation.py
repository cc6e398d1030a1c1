"""A try-on as a customer gets it: through the stack's own Redis, with the sandbox around it."""

import json
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from tests.sandbox.database import Database
from tests.sandbox.producer import Producer
from tests.sandbox.records import Records


class StackRedis:
    """The one command that the producer needs, on the stack's Redis."""

    def __init__(self, server: Host) -> None:
        self._server = server

    def lpush(self, key: str, message: str) -> None:
        auth = 'export REDISCLI_AUTH=$(cut -d" " -f2 /run/secrets/redis.password.conf)'
        command = f'{auth}; redis-cli lpush {key} "$0"'
        assert self._server.run("docker exec wearon-redis-1 sh -c %s %s", command, message).rc == 0


@pytest.fixture
def records(sandbox: dict[str, str]) -> Iterator[Records]:
    with Database(sandbox["database_url"]) as database:
        records = Records()
        records.database = database
        yield records


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
