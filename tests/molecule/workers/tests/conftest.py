"""The managed Redis of both hosts as its provider and its customers reach it, and generations that take long."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import testinfra

from tests.molecule.hosts import STATE
from tests.sandbox.producer import Producer
from tests.sandbox.records import Records
from tests.sandbox.remote import OpenAIRemote

FIRST, SECOND = testinfra.get_host("docker://first"), testinfra.get_host("docker://second")
#: Passwords of the user `shop`, with characters that a URL and a form treat differently.
OLD, NEW = "managed+p@ss/word", "rotated/p@ss+word"


def ask(query: str) -> list[dict[str, Any]]:
    """The series that Prometheus answers."""
    url = f"http://127.0.0.1:9090/api/v1/query?query={query}"
    answer = json.loads(FIRST.check_output(f"docker exec wearon-prometheus-1 wget -q -O - '{url}'"))
    return list(answer["data"]["result"])


def await_measured() -> None:
    """Return when the redis exporter reaches Redis and the Celery exporter hears every worker."""
    deadline = time.monotonic() + 120
    while True:
        up = ask("redis_up==1")
        heard = [one["metric"]["hostname"] for one in ask("celery_worker_up==1")]
        if up and sorted(name.split("-")[-1] for name in heard) == ["first", "second", "second"]:
            return
        assert time.monotonic() < deadline, (up, heard)
        time.sleep(1)


def connect(user: str, password: str) -> redis.Redis:
    """A client with TLS, of the authority of the service."""
    tls = {"ssl": True, "ssl_ca_certs": str(STATE / "ca.crt")}
    return redis.Redis("127.0.0.1", 16379, username=user, password=password, decode_responses=True, **tls)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def managed() -> Iterator[redis.Redis]:
    """The service as its provider reaches it."""
    with connect("provider", "provider") as client:
        yield client


@pytest.fixture(scope="session")
def console(managed: redis.Redis) -> Callable[..., Any]:
    """Run a command in the console of the provider."""
    return managed.execute_command


@pytest.fixture
def producer(records: Records, sandbox: dict[str, str], managed: redis.Redis) -> Producer:
    """The application that queues try-ons."""
    photos = [f"{sandbox['photos_url']}/{name}.jpg" for name in ("person", "garment")]
    return Producer(records.database, managed, photos)


@pytest.fixture
def slow(sandbox: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Call with words of a prompt and seconds: such generations take as long, so that they are in flight meanwhile."""
    address = urlsplit(sandbox["openai_url"])
    openai = OpenAIRemote(f"{address.scheme}://{address.netloc}")
    rules = []
    yield lambda words, seconds: rules.append(openai.fault("slow", contains=words, delay=seconds))
    for rule in rules:
        openai.clear(rule)


@pytest.fixture
def paid_once(records: Records) -> Callable[..., None]:
    """Fail unless each try-on is completed and paid for once."""

    def check(queued: list[Any]) -> None:
        for one in queued:
            session = records.settled("b2c", one.session_id, timeout=180)
            assert session["status"] == "completed", session["error_message"]
            assert records.balance_changes(one.owner_id) == [10, -1]

    return check
