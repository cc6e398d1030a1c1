"""Fixtures for every test: the sandbox, one for each process of the run, and clean for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox import Sandbox

#: Folders of tests that read or render files, and their modules that start a server and have to be on time.
FILES = {Path(__file__).with_name(name) for name in ("alerts", "documents", "roles")}
SERVERS = {"test_nginx.py", "test_panels.py"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, and mark the tests that `.ci/run` may run beside other work: `-m files`."""
    if os.environ.get("CHAOS") != "full":
        left_out = [item for item in items if "chaos_full" in item.keywords]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if not FILES.isdisjoint(item.path.parents) and item.path.name not in SERVERS:
            item.add_marker("files")


@pytest.fixture(scope="session")
def world() -> Iterator[Sandbox]:
    """The servers, with whatever the tests before left in them: use `sandbox`."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(world: Sandbox) -> Sandbox:
    """The sandbox, with empty tables, queue, storage and records, and no faults."""
    world.reset()
    return world
