"""The benchmark runs and has its figures; what they say is for a quiet machine."""

import json
import os
from pathlib import Path

import pytest

from tests.bench import generation, machine
from tests.bench.__main__ import main
from tests.bench.figures import percentile
from tests.bench.meter import names
from tests.bench.world import world

EXPECTED = {
    "generation": {
        "own time p50",
        "completed in best minute",
        "worker CPU per generation",
        "/health p99",
        "worker PSS peak",
    },
    "burst": {"drain rate", "calls in flight, peak", "sandbox CPU per generation"},
    "outage": {"OpenAI down: paused after", "no quota: pause ended after recovery"},
    "backlog": {"Redis, growth while they wait", "worker, processor more with them", "drain rate"},
    "lanes": {"lanes: shoppers p95", "bulk: CPU per generation, against the line"},
    "bucket": {"deleted", "wrongly deleted", "RSS peak"},
    "start": {"start to ready, best", "idle PSS"},
    "rest": {"at rest, sent", "generation, sent", "generation, with those that scripts call"},
    "growth": {"concurrency 10: PSS peak", "2 megapixels: CPU per generation"},
}


@pytest.mark.parametrize("part", EXPECTED)
def test_a_quick_run_has_all_figures(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([part, "--quick", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    figures = {figure["name"]: figure["value"] for figure in shown["parts"][part]}
    assert figures.keys() >= EXPECTED[part]
    assert figures.get("failed", 0) == figures.get("not ended", 0) == 0
    assert shown["machine"]["cores"] >= 1


def test_worker_and_sandbox_run_on_the_cores_that_are_named() -> None:
    worker_cores, sandbox_cores = machine.cores()
    with world(2) as around:
        around.start_worker()
        placed = {name: os.sched_getaffinity(pid) for name, pid in names(around.worker.process.pid).items()}
        apart = [os.sched_getaffinity(pid) for pid in around.sandbox.pids().values()]
    assert placed == {"supervisor": worker_cores, "tasks": worker_cores}
    assert all(cores == sandbox_cores for cores in apart)


def test_figures_can_be_kept_in_a_file_beside_the_tables(tmp_path: Path) -> None:
    assert main(["images", "--quick", "--save", str(tmp_path / "bench.json")]) == 0
    assert json.loads((tmp_path / "bench.json").read_text())["parts"].keys() == {"images"}


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "no such part: nothing" in capsys.readouterr().err


def test_full_minutes_count_from_the_first_result() -> None:
    ended = [100.0 + second for second in range(150)]
    assert generation.full_minutes(ended, begin=100, minutes=2) == [60, 60]
    assert generation.best_minute(ended) == 60


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.75, 3), (0.95, 4), (0.99, 4)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4, 3, 2, 1], share) == value
