"""Sessions and their versions: by the id alone, in the shares of the weights, without a prompt of their own only."""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Set
from uuid import UUID

import pytest

from worker.prompts import catalogue
from worker.prompts.experiment import Choice, Experiment

A, B, SENT = "2026-12-a", "2026-12-b", catalogue.AS_SENT
STORE = UUID(int=7)
SESSIONS = [UUID(int=random.Random(number).getrandbits(128)) for number in range(2000)]


def counts(experiment: Experiment, paused: Set[str] = frozenset()) -> Counter[str]:
    return Counter(experiment.choose(session, None, "", paused).version for session in SESSIONS)


def test_versions_have_the_shares_of_their_weights() -> None:
    found = counts(Experiment({A: 90, B: 10}))
    assert found.total() == len(SESSIONS)
    assert 160 < found[B] < 240  # three deviations


def test_a_session_has_one_version_in_every_process() -> None:
    script = (
        "from uuid import UUID; from worker.prompts.experiment import Experiment;"
        f"print([Experiment({{'{B}': 50, '{A}': 50}}).choose(UUID(int=n), None, '').version for n in range(50)])"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    here = [Experiment({A: 50, B: 50}).choose(UUID(int=number), None, "").version for number in range(50)]
    assert other.strip() == str(here)


def test_more_weight_moves_no_session_away_from_the_version() -> None:
    small, large = Experiment({A: 90, B: 10}), Experiment({A: 50, B: 50})
    for session in SESSIONS:
        if small.choose(session, None, "").version == B:
            assert large.choose(session, None, "").version == B


@pytest.mark.parametrize("weights", [{A: 1}, {A: 0.001}, {A: 1, B: 0}])
def test_a_version_alone_has_all_sessions(weights: dict[str, float]) -> None:
    assert counts(Experiment(weights)) == {A: len(SESSIONS)}


def test_without_an_experiment_a_prompt_is_used_as_sent() -> None:
    assert Experiment().choose(STORE, None, " my own\n") == Choice(catalogue.name("my own"), "my own")
    assert Experiment().choose(STORE, None, "") == Choice("worker-1", catalogue.versions()["worker-1"].text)


def test_a_prompt_of_a_stores_own_is_used_as_sent() -> None:
    experiment = Experiment({A: 1}, {STORE: {B: 1}})
    for store in (None, STORE):
        assert experiment.choose(STORE, store, "In a forest") == Choice(catalogue.name("In a forest"), "In a forest")


def test_a_default_of_the_app_has_a_version() -> None:
    sent = "the app's new default"
    assert Experiment({A: 1}).choose(STORE, None, sent).version == catalogue.name(sent)
    known = Experiment({A: 1}, defaults=frozenset({catalogue.name(sent)}))
    assert known.choose(STORE, None, f"{sent.upper()}\r\n").version == A


def test_a_store_has_its_own_version_or_weights() -> None:
    experiment = Experiment({A: 1}, {STORE: {B: 1}})
    assert experiment.choose(STORE, STORE, "").version == B
    assert {experiment.choose(STORE, other, "").version for other in (None, UUID(int=8))} == {A}


def test_as_sent_is_what_the_message_brings() -> None:
    sent = "the app's default"
    experiment = Experiment({SENT: 1}, defaults=frozenset({catalogue.name(sent)}))
    assert experiment.choose(STORE, None, sent) == Choice(SENT, sent)
    assert experiment.choose(STORE, None, "") == Choice(SENT, catalogue.versions()["worker-1"].text)


def test_sessions_of_a_paused_version_get_the_control_and_no_other_session_moves() -> None:
    experiment = Experiment({A: 60, B: 30, SENT: 10})
    for session in SESSIONS:
        before, now = (experiment.choose(session, None, "", paused).version for paused in (frozenset[str](), {B}))
        assert now == (A if before == B else before)


def test_a_paused_control_leaves_prompts_as_sent() -> None:
    assert Experiment({A: 90, B: 10}).choose(STORE, None, "", {A, B}).version == "worker-1"
    assert Experiment({}, {STORE: {B: 1}}).choose(STORE, STORE, "", {B}).version == "worker-1"
    assert Experiment({A: 1}, {STORE: {B: 1}}).choose(STORE, STORE, "", {B}).version == A


def test_the_control_is_the_heaviest_version_in_whatever_order() -> None:
    assert {Experiment(weights).control for weights in ({A: 9, B: 1}, {B: 1, A: 9}, {B: 1, A: 1})} == {A}
    assert Experiment().control is None


def test_a_version_is_measured_by_another_one() -> None:
    experiment = Experiment({A: 9, B: 1}, {STORE: {"worker-1": 1}, UUID(int=8): {A: 1}})
    assert [experiment.control_of(version) for version in (A, B, "worker-1")] == [None, A, A]
    assert Experiment({}, {STORE: {A: 9, B: 1}}).control_of(B) == A
