"""An experiment over 2 000 sessions: a planted bad prompt is paused, one that is as good as the control is not."""

import random
from collections import Counter
from uuid import UUID

from worker.prompts.experiment import Experiment
from worker.prompts.results import Results, note

A, B = "2026-12-a", "2026-12-b"
SESSIONS = 2000
#: The watch looks after so many.
_STEP = 20


class Trial:
    """Sessions of an experiment one after the other, with the shares that moderation blocks by version."""

    def __init__(self, experiment: Experiment, blocks: dict[str, float], seed: int) -> None:
        self._experiment, self._blocks, self._random = experiment, blocks, random.Random(seed)
        self.ended, self.blocked = Counter[str](), Counter[str]()
        #: By version: the number of its sessions when it was paused.
        self.paused: dict[str, int] = {}

    def run(self) -> "Trial":
        for number in range(1, SESSIONS + 1):
            session = UUID(int=self._random.getrandbits(128))
            version = self._experiment.choose(session, None, "", self.paused.keys()).version
            self.ended[version] += 1
            self.blocked[version] += self._random.random() < self._blocks[version]
            if number % _STEP == 0:
                self._watch()
        return self

    def results(self, version: str) -> Results:
        ended, blocked = self.ended[version], self.blocked[version]
        return Results(version, ended, ended - blocked, blocked)

    def _watch(self) -> None:
        for version in self._experiment.versions:
            control = self._experiment.control_of(version)
            if control and version not in self.paused and self.results(version).must_pause(self.results(control)):
                self.paused[version] = self.ended[version]


def trials(blocks: dict[str, float], number: int, weight: float = 10) -> list[Trial]:
    experiment = Experiment({A: 100 - weight, B: weight})
    return [Trial(experiment, blocks, seed).run() for seed in range(number)]


def test_a_bad_prompt_is_paused_after_a_few_of_its_sessions_and_gets_no_more() -> None:
    for trial in trials({A: 0.02, B: 0.3}, 10):
        assert trial.paused.keys() == {B}
        assert trial.ended[B] == trial.paused[B] <= 60
        assert trial.ended.total() == SESSIONS


def test_a_prompt_as_good_as_the_control_is_hardly_ever_paused() -> None:
    assert sum(bool(trial.paused) for trial in trials({A: 0.05, B: 0.05}, 30, weight=50)) <= 1


def test_a_prompt_that_blocks_more_but_not_twice_as_often_goes_on() -> None:
    assert not Results(B, 10_000, 0, 1500).must_pause(Results(A, 10_000, 0, 1000))
    assert Results(B, 10_000, 0, 2000).must_pause(Results(A, 10_000, 0, 1000))


def test_a_few_sessions_pause_nothing() -> None:
    assert not Results(B, 19, 0, 19).must_pause(Results(A, 1000))
    assert not Results(B, 1000, 0, 1000).must_pause(Results(A, 19))
    assert not Results(B).must_pause(Results(A))
    assert not Results(B, 20, 0, 4).must_pause(Results(A, 1000))
    assert Results(B, 20, 0, 5).must_pause(Results(A, 1000))


def test_a_comparison_says_what_the_data_shows() -> None:
    control = Results(A, 1000, 950, 20)
    assert note(Results(B, 99, 99), control) == "too little data: 99 sessions, 100 are needed"
    assert note(Results(B, 200, 200), Results(A, 99)).startswith("too little data of the control: 99 sessions")
    assert note(Results(B, 200, 120, 70), control) == "is blocked more often, succeeds less often"
    assert note(Results(B, 1000, 990, 1), control) == "is blocked less often, succeeds more often"
    assert note(Results(B, 200, 190, 4), control) == "no difference shown"
