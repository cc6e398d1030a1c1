"""The gate, with a real HTTP server as the new colour; the image; the command line of a step."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import gate
import host
import pytest
import releases

from tests.roles.rollout.conftest import PLACES, PROGRAMS, Clock, Host

HEALTH = {"model_loaded": True, "redis_connected": True}


class Colour:
    """A worker that answers as the test wants."""

    def __init__(self) -> None:
        self.ready = [200]
        self.health: Any = HEALTH
        self.size = 400
        self.asked: list[dict[str, Any]] = []
        colour = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ready = colour.ready.pop(0) if len(colour.ready) > 1 else colour.ready[0]
                self.answer(ready if self.path == "/ready" else 200, json.dumps(colour.health))

            def do_POST(self) -> None:
                colour.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer(colour.size, "what it measured")

            def answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """The server is silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def colour(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Colour]:
    one = Colour()
    monkeypatch.setattr(host, "url", lambda *_: f"http://127.0.0.1:{one.server.server_port}")
    monkeypatch.setattr(host, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, "ok\n", ""))
    yield one
    one.server.shutdown()
    one.server.server_close()


def pass_gate(photo: str = "") -> None:
    one = {"colours": PLACES, "services": {"worker-green": {}}}
    gate.gate({"project": "wearon", "plan": {"new": "green"}, "photo": photo, **one})


def test_good_colour_passes(colour: Colour) -> None:
    pass_gate()
    assert colour.asked == [{"image_url": "http://127.0.0.1/rollout.jpg", "height_cm": 175}]


def test_photo_of_our_own_has_to_be_measured(colour: Colour) -> None:
    with pytest.raises(SystemExit, match="/estimate-body answered 400 instead of 200: what it measured"):
        pass_gate("https://photos.test/person.jpg")
    colour.size = 200
    pass_gate("https://photos.test/person.jpg")
    assert colour.asked[-1]["image_url"] == "https://photos.test/person.jpg"


def test_colour_has_to_be_ready_three_times_in_a_row(colour: Colour) -> None:
    colour.ready = [200, 503, 200]
    with pytest.raises(SystemExit, match="it was not ready three times in a row: 200 503 200"):
        pass_gate()


@pytest.mark.parametrize("health", [{**HEALTH, "model_loaded": False}, {**HEALTH, "redis_connected": False}, [], 3])
def test_health_has_to_say_that_all_is_there(colour: Colour, health: Any) -> None:
    colour.health = health
    with pytest.raises(SystemExit, match="its /health says: "):
        pass_gate()


def test_colour_that_does_not_answer_is_refused(colour: Colour) -> None:
    colour.server.shutdown()
    colour.server.server_close()
    with pytest.raises(SystemExit, match="it was not ready three times in a row: 0 0 0"):
        pass_gate()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ok  queue\nfail  redis:   away\nfail  openai: key", "fail redis: away; fail openai: key"),
        ("a\nb\nc\nd", "b; c; d"),
        ("", "no answer"),
    ],
)
def test_doctor_is_quoted(colour: Colour, monkeypatch: pytest.MonkeyPatch, text: str, found: str) -> None:
    monkeypatch.setattr(host, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, text, ""))
    with pytest.raises(SystemExit, match=f"its doctor found a fault: {found}$"):
        pass_gate()


# --- the image


def fetch(here: Host, wanted: str, **changes: Any) -> dict[str, str]:
    return releases.fetch(here.job(plan={"wanted": wanted}, **changes))


def test_image_is_pinned_by_its_digest(here: Host) -> None:
    assert fetch(here, "v2") == {"wanted": "v2", "id": "id-v2", "reference": "registry/worker:v2@sha256:v2"}
    assert fetch(here, "v2@sha256:other")["reference"] == "registry/worker:v2@sha256:v2"


def test_image_that_does_not_fit_is_not_pulled(here: Host) -> None:
    with pytest.raises(SystemExit, match=r"Only 5000 MB .* on here; a rollout needs 9999 .*Nothing was changed"):
        fetch(here, "v2", free_megabytes=9999)


def test_way_back_to_an_image_that_is_here_needs_no_room(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that fills the disk must not keep the one before from coming back."""

    def run(*command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        kept = command[1:3] == ("image", "inspect")
        return subprocess.CompletedProcess(command, 0, "", "") if kept else here.run(*command, seconds=seconds)

    monkeypatch.setattr(host, "run", run)
    assert fetch(here, "v1@sha256:v1", free_megabytes=9999, back=True)["id"] == "id-v1"


def test_image_that_cannot_be_had_changes_nothing(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        if command[1] == "pull":
            return subprocess.CompletedProcess(command, 1, "", "no route\nto host")
        return subprocess.CompletedProcess(command, *here._answer(list(command), seconds))

    monkeypatch.setattr(host, "run", offline)
    with pytest.raises(SystemExit, match=r"registry/worker:v2 cannot be pulled on here: no route to host. Nothing was"):
        fetch(here, "v2")


# --- its signature


@pytest.fixture
def cosign(here: Host, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Return what is asked of cosign, which knows no signature of another key than `good`."""
    asked: list[tuple[str, ...]] = []

    def run(*command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        if command[:2] != ("docker", "run"):
            return here.run(*command, seconds=seconds)
        asked.append(command[command.index("cosign:v3") + 1 :])
        refused = "COSIGN_KEY=bad" in command
        return subprocess.CompletedProcess(
            command, int(refused), "", "Error: no matching signatures" if refused else ""
        )

    monkeypatch.setattr(host, "run", run)
    return asked


def signed(here: Host, **changes: str) -> dict[str, Any]:
    return {"cosign": {**here.job()["cosign"], **changes}}


def test_signature_is_checked_by_digest_before_the_release_runs(here: Host, cosign: list[tuple[str, ...]]) -> None:
    fetch(here, "v2")
    assert cosign == [], "no key and no identity is set"
    fetch(here, "v2", **signed(here, key="good", identity="^me$"))
    assert [one[0] for one in cosign] == ["verify", "verify-attestation"]
    assert {one[-1] for one in cosign} == {"registry/worker@sha256:v2"}
    assert cosign[1][3:5] == ("--certificate-identity-regexp", "^me$")
    fetch(here, "v1", back=True, **signed(here, key="bad"))


@pytest.mark.usefixtures("cosign")
def test_release_without_the_signature_is_refused(here: Host) -> None:
    with pytest.raises(
        SystemExit, match=r"v2 on here has no signature of worker_cosign_key: .*no matching.*Nothing was"
    ):
        fetch(here, "v2", **signed(here, key="bad"))
    assert list(here.containers) == ["blue"]


# --- what the play calls


@pytest.mark.parametrize(("step", "text"), [("plan", "{"), ("plan", "{}"), ("record", "[]"), ("unknown", "{}")])
def test_step_ends_with_one_sentence(step: str, text: str) -> None:
    run = subprocess.run(
        [sys.executable, "-B", PROGRAMS, step], input=text, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert (run.stdout, run.stderr.count("\n")) == ("", 1)
    assert run.stderr.startswith(f"{step} cannot read its input: ")
