"""Handles on the three HTTP servers: the commands and questions of the tests."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

#: Where every server takes commands.
CONTROL = "/__control"
_PLANTED_AT_ONCE = 20_000
_OPENER = build_opener(ProxyHandler({}))  # never through a proxy from the environment


class Remote:
    """Commands over `POST /__control`."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def command(self, name: str, **arguments: object) -> Any:
        """Run one command and return its result."""
        try:
            return json.loads(self.send("POST", CONTROL, json.dumps({name: arguments}).encode()))[name]
        except HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None

    def content(self, path: str) -> bytes:
        """Bytes from below the control path."""
        return self.send("GET", f"{CONTROL}/{path}")

    def reset(self) -> None:
        """Return to the state after the start."""
        self.command("reset")

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """One request; raises HTTPError unless the answer is a success."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with _OPENER.open(Request(self.origin + path, body, named, method=method), timeout=30) as answer:
            return bytes(answer.read())


class Faulty(Remote):
    """A server with faults; see faults.py for the words and the table in README.md for the kinds."""

    def fault(self, kind: str, **rule: object) -> int:
        """Add a rule (`times`, `seconds`, `on`, `contains`, `model`, `delay`, options of the kind); returns its id."""
        return int(self.command("fault", kind=kind, **rule))

    def clear(self, id: int | None = None) -> None:
        """Remove one rule or all; hanging requests end."""
        self.command("clear", id=id)

    def faults(self) -> list[dict[str, Any]]:
        """All rules with their hits."""
        return list(self.command("faults"))


@dataclass(frozen=True)
class StoredObject:
    """An object in Storage."""

    bucket: str
    path: str
    content_type: str
    size: int
    versions: int
    remote: Remote

    @property
    def data(self) -> bytes:
        return self.remote.content(f"objects/{self.bucket}/{self.path}")


class GatewayRemote(Faulty):
    """The Supabase gateway."""

    def use(self, database_url: str) -> None:
        """Serve another database."""
        self.command("use", database_url=database_url)

    def objects(self) -> dict[str, StoredObject]:
        """The stored objects, by path."""
        return {item["path"]: StoredObject(**item, remote=self) for item in self.command("objects")}

    def plant(self, bucket: str, objects: Iterable[tuple[str, float, int]]) -> None:
        """Store many objects at once: name, age in seconds and size of each."""
        objects = list(objects)
        for start in range(0, len(objects), _PLANTED_AT_ONCE):
            self.command("plant", bucket=bucket, objects=objects[start : start + _PLANTED_AT_ONCE])

    def paths(self, bucket: str) -> set[str]:
        """The names of all objects."""
        return set(self.command("paths", bucket=bucket))

    def requests(self) -> dict[str, int]:
        """The number of requests of each operation, by its name (rpc/start_generation, storage/upload ...)."""
        return dict(self.command("requests"))


@dataclass(frozen=True)
class ReceivedImage:
    """One image part of a call."""

    field: str
    filename: str
    content_type: str
    size: int
    source: str
    remote: Remote

    @property
    def data(self) -> bytes:
        return self.remote.content(self.source)


@dataclass(frozen=True)
class ReceivedCall:
    """One call of the image API; times are seconds since 1970, `status` None means it was not answered."""

    number: int
    started: float
    finished: float | None
    model: str
    prompt: str
    parameters: dict[str, str]
    headers: dict[str, str]
    images: list[ReceivedImage]
    status: int | None
    outcome: str


class OpenAIRemote(Faulty):
    """The image API."""

    def set(self, **settings: object) -> None:
        """latency (seconds or {"median": 30, "sigma": 0.3}), limit_per_minute, compose, keep_images; models that are
        shut_down ({model: "model_not_found"}, or another name in openai/answers.yml) and their shutdown_dates."""
        self.command("set", **settings)

    def calls(self, containing: str = "") -> list[ReceivedCall]:
        """Calls in order, optionally only those whose prompt contains a text."""
        return [self._call(item) for item in self.command("calls") if containing in item["prompt"]]

    def summary(self) -> dict[str, int]:
        """total, in_flight, peak_in_flight, and max_per_minute: the most calls within any 60 s."""
        return dict(self.command("summary"))

    def lookups(self) -> list[str]:
        """Models that were asked for by GET /models/{id}, in order."""
        return list(self.command("lookups"))

    def _call(self, item: dict[str, Any]) -> ReceivedCall:
        images = [
            ReceivedImage(**part, source=f"calls/{item['number']}/images/{index}", remote=self)
            for index, part in enumerate(item.pop("images"))
        ]
        return ReceivedCall(**item, images=images)


class PhotosRemote(Remote):
    """The photo host."""

    def put(self, name: str, data: bytes = b"", **options: object) -> str:
        """Serve `data` under `name`, with the options of host.Photo; returns the address."""
        self.send("PUT", f"/{name}", data, X_Photo=json.dumps(options))
        return self.url(name)

    def url(self, name: str) -> str:
        """Address of a picture; person.jpg, garment.jpg and the others in pictures/ are always there."""
        return f"{self.origin}/{name}"
