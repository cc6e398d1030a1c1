"""The end of a colour: in order, once, and never for ever."""

import json

import drain
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
    assert "blue was killed after 0 s; since the drain began 0 generations ended" in sentence
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
