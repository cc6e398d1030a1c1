"""The real clients, pointed at the sandbox."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import OpenAI
from postgrest import SyncPostgrestClient
from storage3 import SyncStorageClient

from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP

Parts = list[tuple[str, bytes, str]]


@pytest.fixture
def rest(sandbox: Sandbox) -> Iterator[SyncPostgrestClient]:
    with rest_client(sandbox, sandbox.service_key) as client:
        yield client


@pytest.fixture
def bucket(sandbox: Sandbox) -> Any:
    client = SyncStorageClient(f"{sandbox.supabase_url}/storage/v1/", _headers(sandbox.service_key))
    return client.from_("virtual-tryon-images")


@pytest.fixture
def parts(sandbox: Sandbox) -> Parts:
    """A person and a garment as the worker would send them."""
    return [(name, HTTP.get(sandbox.photos.url(name)).content, "image/jpeg") for name in ("person.jpg", "garment.jpg")]


@pytest.fixture
def edit(sandbox: Sandbox, parts: Parts) -> Iterator[Callable[..., Any]]:
    """Calls the image API as the worker does; options replace the usual ones."""
    usual = {"model": "gpt-image-1.5", "prompt": "try it on", "size": "1024x1536", "quality": "medium"}
    with OpenAI(api_key=sandbox.openai_key, base_url=sandbox.openai_url, max_retries=0, timeout=20) as client:
        yield lambda **options: client.images.edit(**{**usual, "image": parts, "output_format": "jpeg", **options})


def rest_client(sandbox: Sandbox, key: str) -> SyncPostgrestClient:
    return SyncPostgrestClient(f"{sandbox.supabase_url}/rest/v1", headers=_headers(key))


def call(rest: SyncPostgrestClient, function: str, **arguments: Any) -> Any:
    """The result of a function of the database."""
    return rest.rpc(function, arguments).execute().data


def _headers(key: str) -> dict[str, str]:
    return {"apikey": key, "Authorization": f"Bearer {key}"}
