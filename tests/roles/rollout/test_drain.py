"""The end of a colour: in order, once, and never for ever."""

import json
import subprocess

import drain
import host
import pytest

from tests.roles.rollout.conftest import Clock, Host


@pytest.fixture
def leaving(here: Host) -> Host:
    """A host on which blue is about to leave."""
    here.containers["blue"].running = True
    return here


def test_colour_gets_one_sigterm_and_is_gone(leaving: Host) -> None:
    leaving.logs = "\n".join(
        json.dumps({"event": event}) for event in ("generation_ended", "generation_ended", "message_given_back")
    )
    blue = leaving.containers["blue"]
    sentence = leaving.drain("blue")
    assert (blue.terms, blue.exit_code, leaving.containers) == (1, 0, {})
    assert sentence == "blue ended after 0 s; since the drain began 2 generations ended, 1 messages requeued"


def test_colour_that_hangs_is_released_then_killed_and_the_play_goes_on(leaving: Host) -> None:
    blue = leaving.containers["blue"]
    blue.hangs = True
    sentence = leaving.drain("blue")
    assert (blue.terms, blue.exit_code, leaving.containers) == (2, 137, {})
    assert "blue was killed after 351 s; since the drain began 0 generations ended" in sentence
    assert "the workers that run requeue or refund what it still held" in sentence


def test_rollout_whose_old_colour_hangs_succeeds(here: Host) -> None:
    here.containers["blue"].hangs = True
    assert here.roll_out("v2") == ""
    here.assert_settled("v2")


def test_drain_that_goes_on_gets_no_second_sigterm(leaving: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[object, ...]] = []
    monkeypatch.setattr(drain, "end", lambda *arguments: begun.append(arguments))
    job = leaving.job(colour="blue")
    drain.begin(job)
    leaving.units.add("wearon-drain-blue")
    drain.begin(job)
    assert begun == [("wearon-worker-blue-1", "350", "")]


def test_colour_that_drains_without_a_unit_is_waited_for(
    leaving: Host, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit died or was stopped by hand; only after its limit the worker gets a second SIGTERM."""
    begun: list[tuple[object, ...]] = []
    monkeypatch.setattr(drain, "end", lambda *arguments: begun.append(arguments))
    leaving.containers["blue"].terms = 1
    drain.begin(leaving.job(colour="blue"))
    clock.sleep(100)
    drain.begin(leaving.job(colour="blue"))
    assert begun == [("wearon-worker-blue-1", "350", "1"), ("wearon-worker-blue-1", "250", "1")]


def test_unit_of_an_earlier_container_does_not_keep_this_one_from_ending(leaving: Host) -> None:
    """Else the colour would never be told, and the play would wait for its whole limit."""
    note = {"start": "c-before T", "began": 1.0, "limit": 350.0}
    (leaving.folder / "worker/blue/drain.json").write_text(json.dumps(note))
    leaving.units.add("wearon-drain-blue")
    blue = leaving.containers["blue"]
    leaving.drain("blue")
    assert blue.terms == 1


def test_limit_is_that_of_the_container_not_that_of_the_inventory(
    leaving: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[object, ...]] = []
    monkeypatch.setattr(drain, "end", lambda *arguments: begun.append(arguments))
    drain.begin(leaving.job(colour="blue", drain_seconds=5))
    assert begun[0][1] == "350"


def test_colour_that_was_held_back_has_little_time(leaving: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[object, ...]] = []
    monkeypatch.setattr(drain, "end", lambda *arguments: begun.append(arguments))
    (leaving.folder / "worker/blue/hold").touch()
    drain.begin(leaving.job(colour="blue"))
    assert begun[0][1] == "20"


def test_long_drain_is_reported_every_ten_seconds(leaving: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "end", lambda *_: None)
    job = leaving.job(colour="blue")
    said = [drain.drain(job)["sentence"] for _ in range(2)]
    assert said[1] == "blue finishes 2 running generations: 22 of at most 350 seconds"


def test_colour_that_nothing_ends_is_removed_by_force(leaving: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "end", lambda *_: None)
    sentence = leaving.drain("blue")
    assert leaving.containers == {}
    assert sentence.startswith("blue was removed by force after 4")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"start": 1}'])
def test_note_that_cannot_be_read_counts_as_none(leaving: Host, text: str) -> None:
    (leaving.folder / "worker/blue/drain.json").write_text(text)
    leaving.drain("blue")
    assert leaving.containers == {}


def away(here: Host, monkeypatch: pytest.MonkeyPatch, refuses: str, times: int) -> list[str]:
    """Let the engine refuse a command so many times; return what was asked of the engine, in order."""
    asked: list[str] = []

    def answer(*command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        asked.append(" ".join(command[:2]))
        if asked[-1] == refuses and asked.count(refuses) <= times:
            return subprocess.CompletedProcess(command, 1, "", "Cannot connect to the Docker daemon")
        return here.run(*command, seconds=seconds)

    monkeypatch.setattr(host, "run", answer)
    return asked


@pytest.mark.parametrize("refuses", ["docker kill", "docker wait", "docker inspect", "docker update"])
def test_engine_that_restarts_during_a_drain_costs_no_generation(
    leaving: Host, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    """The colour gets its one SIGTERM as soon as the engine answers, and its whole time."""
    blue = leaving.containers["blue"]
    asked = away(leaving, monkeypatch, refuses, 3)
    assert leaving.drain("blue").startswith("blue ended after ")
    assert (blue.terms, leaving.containers) == (1, {})
    assert "docker stop" not in asked, "a second SIGTERM cut the drain short"


def test_host_that_starts_no_unit_still_drains(leaving: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    blue = leaving.containers["blue"]
    asked = away(leaving, monkeypatch, "systemd-run --quiet", 1)
    assert leaving.drain("blue").startswith("blue ended after ")
    assert blue.terms == 1
    assert "systemd-run --quiet" in asked


def test_rollout_ends_well_although_the_engine_cannot_remove_the_old_colour(
    here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new release serves; the next rollout removes what is left."""
    away(here, monkeypatch, "docker rm", 1)
    assert here.roll_out("v2") == ""
    assert here.releases()[0] == ("v2", "good")
    assert here.roll_out("v3") == ""
    here.assert_settled("v3")
