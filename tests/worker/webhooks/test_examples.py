"""The programs of docs/webhooks.md, run as they stand there: what they take, refuse and drop."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from standardwebhooks import Webhook

from tests.integration.worker_process import wait_for
from tests.programs import on_this_machine
from tests.sandbox.processes import end, free_port, spawn
from tests.worker.webhooks.world import SECRET
from worker.webhooks.endpoints import TEST
from worker.webhooks.sender import Event

DOCUMENT = Path(__file__).parents[3] / "docs" / "webhooks.md"
NPM = Path(__file__).parent / "typescript"


def code(language: str) -> str:
    """The document's one program in this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return str(found)


def python(folder: Path) -> list[str]:
    (folder / "partner.py").write_text(code("python"))
    return [sys.executable, str(folder / "partner.py")]


def typescript(folder: Path) -> list[str]:
    if not (NPM / "node_modules/.package-lock.json").exists():
        install = [on_this_machine("npm"), "ci", "--silent", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=NPM, check=True, timeout=120)
    node = on_this_machine("node")
    stripped = subprocess.run(
        [node, "strip.mjs"], cwd=NPM, input=code("typescript"), capture_output=True, text=True, check=True
    )
    program = folder / "partner.mjs"
    program.write_text(stripped.stdout)
    (folder / "node_modules").symlink_to(NPM / "node_modules")
    return [node, str(program)]


class Example:
    """A partner's server that runs."""

    def __init__(self, port: int, log: Path) -> None:
        self.url, self.log = f"http://127.0.0.1:{port}/", log

    def post(self, event: Event, secrets: tuple[str, ...] = (SECRET,), age: timedelta = timedelta(0)) -> int:
        """Post the event as the worker would; -> the status."""
        moment = datetime.now(UTC) - age
        signatures = [Webhook(secret).sign(event.id, moment, event.body()) for secret in secrets]
        headers = {
            "content-type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        return httpx.post(self.url, content=event.body(), headers=headers, timeout=10).status_code

    def printed(self) -> list[str]:
        """The lines that the program has printed for callbacks."""
        return [line for line in self.log.read_text().splitlines() if line.startswith("generation_")]


@pytest.fixture(scope="module", params=[python, typescript], ids=["python", "typescript"])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    folder = tmp_path_factory.mktemp("example")
    command: Callable[[Path], list[str]] = request.param
    port, log = free_port(), folder / "log"
    process = spawn(command(folder), log=log, env={"WEBHOOK_SECRET": SECRET, "PORT": str(port)})
    example = Example(port, log)

    def answers() -> bool:
        try:
            return example.post(event()) == 204
        except httpx.HTTPError:
            return False

    wait_for(answers, 30, log.read_text)
    yield example
    end(process)


def event(session: str = "first") -> Event:
    return Event(str(uuid4()), "generation_completed", "2026-11-27T10:00:00+00:00", {"session_id": session, "é": "ü"})


def test_a_signed_callback_is_taken_once(example: Example) -> None:
    one = event("once")
    assert [example.post(one), example.post(one)] == [204, 204]
    wait_for(lambda: "generation_completed once" in example.printed(), 10, lambda: str(example.printed()))
    assert example.printed().count("generation_completed once") == 1


def test_an_operators_test_is_taken(example: Example) -> None:
    assert example.post(Event(str(uuid4()), TEST, "2026-11-27T10:00:00+00:00", {"store_id": str(uuid4())})) == 204
    assert example.post(event("after the test")) == 204
    wait_for(lambda: "generation_completed after the test" in example.printed(), 10, lambda: str(example.printed()))
    assert "Error" not in example.log.read_text()


def test_either_secret_of_a_rotation_is_accepted(example: Example) -> None:
    assert example.post(event(), secrets=("whsec_" + "QQ" * 16, SECRET)) == 204


def test_a_forged_and_an_old_callback_are_refused(example: Example) -> None:
    assert example.post(event("forged"), secrets=("whsec_" + "QQ" * 16,)) == 400
    assert example.post(event("old"), age=timedelta(minutes=6)) == 400
