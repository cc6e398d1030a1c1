"""A clean sandbox with quick pictures for each scenario, and the tables at the end of the run."""

from collections.abc import Generator

import pytest

from tests.chaos.load import TABLES, Load
from tests.chaos.worker import Worker
from tests.sandbox import Sandbox


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the output of the workers to the report of a failure."""
    outcome = yield
    if outcome.failed and outcome.when == "call":
        for number, worker in enumerate(Worker.made, 1):
            outcome.sections.append((f"worker {number}", worker.output()[-20_000:]))
    if outcome.when == "teardown":
        Worker.made[:] = [worker for worker in Worker.made if not worker.ended]
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for title, rows in TABLES.items():
        terminalreporter.section(title)
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            terminalreporter.write_line("  ".join(cells).rstrip())


@pytest.fixture
def sandbox(world: Sandbox) -> Sandbox:
    """The world, clean and whole, with a canned picture: these tests are about what happens between the pictures."""
    world.reset()
    world.openai.set(compose=False)
    return world


@pytest.fixture
def load(sandbox: Sandbox) -> Load:
    """An empty load with its owners."""
    return Load(sandbox)
