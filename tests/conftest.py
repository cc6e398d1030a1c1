"""Fixtures for every test: the sandbox, one for each process of the run, and clean for each test."""

from collections.abc import Iterator

import pytest

from tests.sandbox import Sandbox


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
