"""One stack for all tests, and at the end a line for each program: whether it was the real one."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.real.stack import PROJECT, SERVICES, Stack, docker
from tests.render import FULL, render

WORDS = {
    "image": "real: its published image",
    "package": "real: the program of Debian's package, in an image of the test bed",
    "stand-in": "NOT REAL: a stand-in of the test bed",
    "unknown": "UNKNOWN: an image that was built and not pulled",
    "missing": "NOT REAL: no image (`make images`)",
    "unmountable": "NOT RUN: this machine's / is no shared mount",
}
kinds: dict[str, str] = {}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("real")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)  # the containers' users go through them
    logs = docker("info", "--format", "{{.DockerRootDir}}/containers")
    render(folder, "local", **FULL, project_name=PROJECT, alloy_container_logs_dir=logs)  # type: ignore[arg-type]
    stack = Stack(folder)
    kinds.update(stack.kinds)
    stack.down()
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


@pytest.fixture
def needs(stack: Stack) -> Callable[..., None]:
    """Go on only with the programs that a test is about; with ALL=1 each of them has to be the published one."""

    def check(*services: str, standin: bool = True) -> None:
        for service in services:
            what = stack.kinds[service]
            if os.environ.get("ALL") and what != "image":
                pytest.fail(f"{service} is {WORDS[what]}")
            if what in {"missing", "unmountable"} or (what == "stand-in" and not standin):
                pytest.skip(f"{service} is {WORDS[what]}")

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if kinds:
        terminalreporter.section("what was real")
        for service in SERVICES:
            terminalreporter.write_line(f"{service:16} {WORDS[kinds[service]]}")
